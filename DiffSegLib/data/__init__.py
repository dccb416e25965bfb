"""From files to tensors: reading with geometry, data sets, splits, normalisation, training patches."""
