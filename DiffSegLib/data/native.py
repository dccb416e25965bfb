"""From rows of the network's grid back to the volume's own: resampled block by block, so that no array of all classes
ever exists at the volume's size.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.data.preprocess import Grid
from DiffSegLib.data.volume import resample

CHUNK = 1 << 26  # bytes of the map as float32 that are filled at a time

# (channels, the rows of one of them on the volume's grid) -> what stands there
Reduce = Callable[[int, Callable[[int], Tensor]], Tensor]


class NativeMap:
    """A (K, J, I) map that is filled from blocks (C, *rows) of the network's grid, in the order of their rows.

    Linear between voxel centres, the field of view kept, as `volume.resample` does with the whole.
    """

    def __init__(self, grid: Grid, shape: Sequence[int], axis: int, reduce: Reduce, dtype: torch.dtype) -> None:
        """shape: of the network's grid; axis: of its rows."""
        self._grid, self._axis, self._reduce = grid, axis, reduce
        self._rows, self._wanted = shape[axis], grid.shape[axis]
        self._map = torch.zeros(grid.shape, dtype=dtype)
        self._held: Tensor | None = None  # the last row that came: the next lies between it and the following one
        self._filled = 0

    def add(self, block: Tensor, start: int) -> None:
        """Fill what lies within the rows so far; block: (C, *rows) from row `start` of the network's grid on."""
        axis = self._axis + 1
        stop = start + block.shape[axis]
        if stop == start:
            return
        if self._held is not None:
            block, start = torch.cat([self._held, block], axis), start - 1
        at = (torch.arange(self._filled, self._wanted) + 0.5) * (self._rows / self._wanted) - 0.5
        at = at.clamp(0.0, self._rows - 1.0)  # where each row of the map lies between the network's
        low = at.floor().long()
        count = int((low + (at > low) < stop).sum())
        step = max(1, CHUNK * self._wanted // (4 * self._map.numel()))
        for first in range(0, count, step):
            self._fill(block, start, at[first : min(first + step, count)])
        self._held = block.narrow(axis, block.shape[axis] - 1, 1).clone() if stop < self._rows else None

    def _fill(self, block: Tensor, start: int, at: Tensor) -> None:
        """The map's next rows, which lie `at` rows of the network's grid; block: from its row `start` on."""
        axis = self._axis
        plane = tuple(n for place, n in enumerate(self._grid.shape) if place != axis)
        low = at.floor().long()
        share = (at - low).to(torch.float32).view(-1, *[1] * len(plane))
        between = bool((share > 0).any())

        def channel(n: int) -> Tensor:
            rows = block[n].movedim(axis, 0)
            found = rows[low - start].float()
            if between:
                found = torch.lerp(found, rows[(low + 1 - start).clamp_max(len(rows) - 1)].float(), share)
            return resample(found, plane)

        found = self._reduce(len(block), channel)
        self._map.narrow(axis, self._filled, len(low)).copy_(found.movedim(0, axis))
        self._filled += len(low)

    def result(self) -> np.ndarray:
        """(K, J, I)."""
        return self._grid.undo(self._map.numpy())


def best_class(count: int, channel: Callable[[int], Tensor]) -> Tensor:
    """The class with the highest probability, class by class with a running best."""
    top = channel(0)
    best = torch.zeros(top.shape, dtype=torch.uint8)
    for n in range(1, count):
        value = channel(n)
        best[value > top] = n
        top = torch.maximum(top, value)
    return best


def regions_as(values: Sequence[int]) -> Reduce:
    """Each region, class 1 on, writes its value where its probability is above a half; a later one overrides."""

    def reduce(_count: int, channel: Callable[[int], Tensor]) -> Tensor:
        found: Tensor | None = None
        for n, value in enumerate(values, start=1):
            inside = channel(n) > 0.5
            found = torch.zeros(inside.shape, dtype=torch.uint8) if found is None else found
            found[inside] = value
        assert found is not None
        return found

    return reduce


def only_channel(_count: int, channel: Callable[[int], Tensor]) -> Tensor:
    """A map of one channel, as it is."""
    return channel(0)
