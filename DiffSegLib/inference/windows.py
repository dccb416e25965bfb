"""The five steps over a volume of any size, window by window, blended with Gaussian weights.

All windows take step 1, then all take step 2, ..., so that the whole mask of a step is there as early as it can be.
Where the state of all windows would not fit the memory budget, they go in groups, and the steps become whole with the
last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.diffusion.sampler import sample_steps
from DiffSegLib.network.features import Features, denoise, encode
from DiffSegLib.network.precision import autocast

STATE_BUDGET = 1 << 30  # bytes of x_t and image features kept for windows that wait for their next step
WINDOW_GROWTH = 3.0  # a volume of up to this many patches' voxels is taken in one window: no seams, and faster

CPU = torch.device("cpu")

# (step 1-based, window 1-based, windows) -> None; raises Cancelled to stop
Tick = Callable[[int, int, int], None]


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
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    factors: tuple[int, ...],
    overlap: float = 0.5,
    growth: float | None = None,
) -> Windows:
    """One window where the volume is small enough, else windows of `patch` that overlap by at least `overlap`.

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
        count = 1 + int(np.ceil((n - s) / max(1, int(s * (1 - overlap)))))
        axes.append([round(i * (n - s) / max(count - 1, 1)) for i in range(count)])
    return Windows(size, padded, tuple(product(*axes)))


def gaussian_weight(size: tuple[int, ...]) -> Tensor:
    """(*size) positive weights, 1 at the centre, sigma an eighth of the size as in nnU-Net, at least 1e-3."""
    weight = torch.ones(())
    for n in size:
        axis = torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
        weight = weight[..., None] * axis
    return (weight / weight.max()).clamp_min(1e-3)


def window_noise(seed: int, sample: int, window: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise that depends on nothing but its arguments, so no batching or order changes a mask."""
    key = np.random.SeedSequence([seed, sample, window, step])
    return torch.from_numpy(np.random.Generator(np.random.Philox(key)).standard_normal(shape, dtype=np.float32))


def noise_levels(diffusion: DiffusionConfig, steps: int) -> list[float]:
    """How noisy the mask is that the network is shown at each step, 1 (nothing but noise) to 0, as the network is told.

    It is the time of the schedule's level, see Process.time.
    """
    process = make_process(diffusion, steps)
    return [float(process.time(torch.tensor([index]))) for index in range(steps - 1, -1, -1)]


def sample_volume(
    network: nn.Module,
    image: Tensor,
    num_classes: int,
    patch: tuple[int, ...],
    factors: tuple[int, ...],
    diffusion: DiffusionConfig,
    *,
    steps: int = 5,
    sampler: str = "ddim",
    seed: int = 0,
    sample: int = 0,
    device: torch.device = CPU,
    precision: torch.dtype = torch.float32,
    every_step: bool = True,
    growth: float | None = None,
    state: int | None = None,
    tick: Tick = lambda step, window, windows: None,
) -> Iterator[Tensor]:
    """Yield the class probabilities (num_classes, *spatial) of each step, or of the last only.

    image: (C, *spatial) normalised. Each window is denoised by itself; each step's probabilities are blended.
    growth: see plan_windows. state: bytes that windows which wait for their next step may keep, STATE_BUDGET if None.
    """
    plan = plan_windows(tuple(image.shape[1:]), patch, factors, growth=growth)
    padding = [n for have, want in zip(image.shape[:0:-1], plan.padded[::-1], strict=True) for n in (0, want - have)]
    padded = torch.nn.functional.pad(image, padding)
    process = make_process(diffusion, steps)
    unbounded = diffusion.parametrisation != "x_start" and process.exclusive
    weight = gaussian_weight(plan.size)
    kept = range(steps) if every_step else range(steps - 1, steps)
    shape = (num_classes, *plan.size)
    count = len(plan.starts)

    def window(n: int) -> _Window:
        return _Window(network, padded[(slice(None), *plan.slices(n))], device, precision)

    ready = [window(0)]
    budget = STATE_BUDGET if state is None else state
    group = max(1, budget // (4 * int(np.prod(shape)) + ready[0].kept())) if count > 1 else 1
    total: dict[int, Tensor] = {}  # a step's is made when its first window comes and goes when its last one has come
    weights = torch.zeros(plan.padded)
    crop = (slice(None), *(slice(0, n) for n in image.shape[1:]))
    for first in range(0, count, group):
        members = range(first, min(first + group, count))
        runs = [
            sample_steps(
                ready.pop() if ready else window(n),
                process,
                window_noise(seed, sample, n, steps, shape)[None].to(device),
                partial(_step_noise, seed, sample, n),
                sampler,
            )
            for n in members
        ]
        for n in members:
            weights[plan.slices(n)] += weight
        sums: dict[int, Tensor] = {}
        for k in range(steps):
            for n, run in zip(members, runs, strict=True):
                tick(k + 1, n + 1, count)
                probability = ((next(run)[0] + 1.0) / 2.0).float().cpu()
                if unbounded:  # x_0 from a predicted noise or v: no probabilities yet
                    probability = probability.clamp_min(1e-6)
                    probability = probability / probability.sum(0)
                if diffusion.fusion == "mean":
                    sums[n] = sums[n] + probability if n in sums else probability
                    probability = sums[n] / (k + 1)
                if k not in kept:
                    continue
                if count == 1:
                    yield probability[crop]
                else:
                    if k not in total:
                        total[k] = torch.zeros((num_classes, *plan.padded))
                    total[k][(slice(None), *plan.slices(n))] += probability * weight
            if count > 1 and k in kept and members.stop == count:
                yield (total.pop(k) / weights)[crop]


def _step_noise(seed: int, sample: int, window: int, step: int, shape: torch.Size) -> Tensor:
    return window_noise(seed, sample, window, step, tuple(shape[1:]))[None]


class _Window:
    """A window as a Denoiser: what the network keeps of the image is computed once, at the first step."""

    def __init__(self, network: nn.Module, window: Tensor, device: torch.device, precision: torch.dtype) -> None:
        self.network, self.window, self.device, self.precision = network, window, device, precision
        self.features: Features = ()

    def encode(self) -> Features:
        if not self.features:
            with torch.inference_mode(), autocast(self.device, self.precision):
                self.features = encode(self.network, self.window[None].to(self.device))
        return self.features

    def kept(self) -> int:
        """Bytes."""
        return sum(x.nbytes for x in self.encode())

    def __call__(self, mask: Tensor | None, t: Tensor) -> Tensor:
        features = self.encode()
        with torch.inference_mode(), autocast(self.device, self.precision):
            return denoise(self.network, features, mask, t).float()
