"""The whole of a network's answer on the volume's own grid, at once."""

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.data.native import NativeMap, Reduce, best_class
from DiffSegLib.data.preprocess import Grid


def to_native(block: Tensor, grid: Grid, reduce: Reduce = best_class, dtype: torch.dtype = torch.uint8) -> np.ndarray:
    """(C, *spatial), the whole of the network's grid -> (K, J, I) on the volume's own grid."""
    found = NativeMap(grid, block.shape[1:], 0, reduce, dtype)
    found.add(block, 0)
    return found.result()
