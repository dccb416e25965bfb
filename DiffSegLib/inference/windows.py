"""The windows that a volume is taken in, and what of them depends on nothing but their number: place, noise, time."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.data.patches import generator
from DiffSegLib.diffusion.process import make_process

WINDOW_GROWTH = 3.0  # a volume of up to this many patches' voxels is taken in one window: no seams, and faster


@dataclass(frozen=True)
class Windows:
    """Where the windows of one size start; the volume is padded to `padded` at its end."""

    size: tuple[int, ...]
    padded: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]

    def slices(self, number: int) -> tuple[slice, ...]:
        """The window's place in the padded volume."""
        return tuple(slice(a, a + n) for a, n in zip(self.starts[number], self.size, strict=True))


def plan_windows(
    shape: tuple[int, ...], patch: tuple[int, ...], factors: tuple[int, ...], growth: float | None = None
) -> Windows:
    """One window where the volume is small enough, else windows of `patch` that overlap by half at least.

    factors: total stride of the network per axis; a window is a multiple of it. growth: how many patches' voxels are
    small enough, WINDOW_GROWTH if None.
    """
    whole = tuple(-(-n // f) * f for n, f in zip(shape, factors, strict=True))
    if whole == tuple(factors):  # a bottom of one voxel has no variance to be normed by
        whole = (*whole[:-1], 2 * whole[-1])
    if np.prod(whole) <= (WINDOW_GROWTH if growth is None else growth) * np.prod(patch):
        return Windows(whole, whole, ((0,) * len(shape),))
    size = tuple(min(-(-p // f) * f, w) for p, f, w in zip(patch, factors, whole, strict=True))
    padded = tuple(max(n, s) for n, s in zip(shape, size, strict=True))
    axes = []
    for n, s in zip(padded, size, strict=True):
        count = 1 + int(np.ceil((n - s) / max(1, s // 2)))
        axes.append([round(i * (n - s) / max(count - 1, 1)) for i in range(count)])
    return Windows(size, padded, tuple(product(*axes)))


def window_noise(seed: int, sample: int, window: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise that depends on nothing but its arguments, so no batching or order changes a mask."""
    return torch.from_numpy(generator(seed, sample, window, step).standard_normal(shape, dtype=np.float32))


def noise_levels(diffusion: DiffusionConfig, steps: int) -> list[float]:
    """How noisy the mask is that the network is shown at each step, 1 (nothing but noise) to 0, as the network is told.

    It is the time of the schedule's level, see Process.time.
    """
    process = make_process(diffusion, steps)
    return [float(process.time(torch.tensor([index]))) for index in range(steps - 1, -1, -1)]
