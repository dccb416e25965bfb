"""Windows blended with Gaussian weights, in a slab of the volume: rows that no later window reaches leave it at once.

So the memory is that of one layer of windows, however long the volume is.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 26  # bytes of the blocks in which finished rows are handed out


def gaussian_weight(size: tuple[int, ...]) -> Tensor:
    """(*size) positive weights, 1 at the centre, sigma an eighth of the size as in nnU-Net, at least 1e-3."""
    weight = torch.ones(())
    for n in size:
        axis = torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
        weight = weight[..., None] * axis
    return (weight / weight.max()).clamp_min(1e-3)


class Slab:
    """The weighted sum of windows (C, *size) over rows `start` to `start + thickness` of one axis of a volume.

    axis: of the volume, 0 is the first spatial one. dtype: float16 halves the memory and moves a probability by at most
    about 1e-3. Divided by the sum of the weights, which is kept in float32.
    """

    def __init__(self, channels: int, shape: tuple[int, ...], axis: int, thickness: int, dtype: torch.dtype) -> None:
        size = (*shape[:axis], thickness, *shape[axis + 1 :])
        self.axis, self.start = axis, 0
        self._sum = torch.zeros((channels, *size), dtype=dtype)
        self._weights = torch.zeros((1, *size))

    def add(self, place: tuple[slice, ...], probability: Tensor, weight: Tensor, share: float = 1.0) -> None:
        """Add (C, *size) at `place` of the volume; of several samples' mean each has its share."""
        rows = place[self.axis]
        rows = slice(rows.start - self.start, rows.stop - self.start)
        here = (slice(None), *place[: self.axis], rows, *place[self.axis + 1 :])
        scaled = weight * share
        for target, channel in zip(self._sum[here], probability, strict=True):
            target += channel * scaled
        self._weights[here] += scaled

    def whole(self) -> Tensor:
        """All rows at once, of a float32 slab that is not used afterwards."""
        return self._sum.div_(self._weights)

    def take(self, stop: int) -> Iterator[tuple[int, Tensor]]:
        """The rows before `stop`, as (first row, (C, *block) float32) blocks; they leave the slab afterwards."""
        axis, count = self.axis + 1, stop - self.start
        row = 4 * self._sum.numel() // max(1, self._sum.shape[axis])
        step = max(1, BLOCK // row)
        for first in range(0, count, step):
            rows = (axis, first, min(step, count - first))
            yield self.start + first, self._sum.narrow(*rows).float() / self._weights.narrow(*rows)
        for part in (*self._sum, self._weights[0]):  # one channel after the other: no second slab
            kept = part.narrow(self.axis, count, part.shape[self.axis] - count).clone()
            part.zero_()
            part.narrow(self.axis, 0, kept.shape[self.axis]).copy_(kept)
        self.start = stop
