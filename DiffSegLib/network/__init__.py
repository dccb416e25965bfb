"""The networks, each built from the same arguments by `build`."""
