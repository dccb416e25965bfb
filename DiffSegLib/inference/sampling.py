"""The diffusion steps over a volume of any size, window by window.

Where memory allows it, all windows take step 1, then all take step 2, ..., so that the whole mask of a step is there as
early as it can be. A larger volume goes in layers of windows along one axis: each layer takes all its steps and samples
and what no later layer reaches is finished (see blend).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.data.smoothing import smoothed
from DiffSegLib.diffusion.gaussian import x_to_probability
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.diffusion.sampler import sample_steps
from DiffSegLib.inference import windows
from DiffSegLib.inference.blend import Slab, gaussian_weight
from DiffSegLib.inference.ladder import CPU
from DiffSegLib.inference.windows import Windows, window_noise
from DiffSegLib.network.features import Features, denoise, encode
from DiffSegLib.network.precision import autocast

STATE_BUDGET = 1 << 30  # bytes of x_t, image features and means kept for windows that wait for their next step
BLEND_BUDGET = 1 << 30  # bytes of blended probabilities
ONE_WINDOW = 1 << 28  # bytes of a volume's probabilities above which it is no longer taken in one window


@dataclass(frozen=True)
class Pass:
    """What the network is about to do, all numbers from 1.

    window: how many of the windows have begun, in whatever order they go. fraction: of all passes, how many are done.
    """

    step: int
    window: int
    windows: int
    sample: int
    fraction: float


Tick = Callable[[Pass], None]  # raises Cancelled to stop


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of a step's probabilities, (C, *spatial) from row `start` of spatial axis `axis` on; the mean of `samples`.

    Pieces of one step come in the order of their rows. step: from 1. last: the step is whole with it.
    """

    step: int
    samples: int
    axis: int
    start: int
    probability: Tensor
    last: bool


@dataclass(frozen=True, eq=False)
class Sampling:
    """How to sample a volume: a network of `num_classes` for windows of `patch`, whose total stride is `factors`.

    views: spatial axes that each sample's windows are mirrored along, from 1 as in (C, *spatial); there are as many
    samples. every_step: or the last only. growth: see plan_windows. batch: windows in one pass of the network. state:
    bytes that windows which wait for their next step may keep, STATE_BUDGET if None. smoothing: of each step's
    probabilities, in voxels, see `smoothed`.
    """

    network: nn.Module
    num_classes: int
    patch: tuple[int, ...]
    factors: tuple[int, ...]
    diffusion: DiffusionConfig
    steps: int = 5
    sampler: str = "ddim"
    seed: int = 0
    views: Sequence[tuple[int, ...]] = ((),)
    device: torch.device = CPU
    precision: torch.dtype = torch.float32
    every_step: bool = True
    growth: float | None = None
    batch: int = 1
    state: int | None = None
    smoothing: float = 0.0
    tick: Tick = lambda _: None

    def pieces(self, image: Tensor) -> Iterator[Piece]:
        """The steps' probabilities of (C, *spatial), normalised.

        Of several samples of a volume that goes as a whole, the first one's steps come before the means of all.
        """
        growth = self.growth
        if growth is None and 4 * self.num_classes * image[0].numel() > ONE_WINDOW:
            growth = 1.0
        plan = windows.plan_windows(tuple(image.shape[1:]), self.patch, self.factors, growth=growth)
        work = _Work(self, plan, _padded(image, plan), tuple(image.shape[1:]))
        yield from work.as_a_whole() if work.fits() else work.in_layers()

    def volumes(self, image: Tensor) -> Iterator[Tensor]:
        """The whole (C, *spatial) of each step, the mean of all samples."""
        parts: dict[int, list[Tensor]] = {}
        for piece in self.pieces(image):
            if piece.samples == len(self.views):
                parts.setdefault(piece.step, []).append(piece.probability)
                if piece.last:
                    yield torch.cat(parts.pop(piece.step), piece.axis + 1)


class _Work:
    """One volume's sampling."""

    def __init__(self, how: Sampling, plan: Windows, padded: Tensor, shape: tuple[int, ...]) -> None:
        self.how, self.plan, self.padded, self.shape = how, plan, padded, shape
        self.process = make_process(how.diffusion, how.steps)
        self.unbounded = how.diffusion.parametrisation != "x_start"
        self.weight = gaussian_weight(plan.size)
        self.kept = range(how.steps) if how.every_step else range(how.steps - 1, how.steps)
        self.count, self.samples = len(plan.starts), len(how.views)
        self.state = STATE_BUDGET if how.state is None else how.state
        self.done = self.begun = 0
        first = self._windows([0], how.views[0])
        masks = 2 if how.diffusion.fusion == "mean" else 1
        self.waiting = 4 * masks * how.num_classes * int(np.prod(plan.size)) + first.kept()  # bytes a window
        # one alone begins with it; which others go through the network beside it depends on how the layers lie
        self.first: _Windows | None = first if min(how.batch, self.count) == 1 else None

    def fits(self) -> bool:
        """Whether all windows may wait for each other, and what is blended may be kept whole."""
        held = len(self.kept) if self.samples > 1 else 1
        whole = 4 * held * self.how.num_classes * int(np.prod(self.plan.padded))
        return self.count == 1 or (self.count * self.waiting <= self.state and whole <= BLEND_BUDGET)

    def as_a_whole(self) -> Iterator[Piece]:
        """All windows take each step together."""
        sums: dict[int, Tensor] = {}
        for sample in range(self.samples):
            slab: Slab | None = None
            for k, n, probability in self._run(range(self.count), sample):
                if self.count == 1:
                    whole = probability
                else:
                    slab = slab or Slab(len(probability), self.plan.padded, 0, self.plan.padded[0], torch.float32)
                    slab.add(self.plan.slices(n), probability, self.weight)
                    del probability
                    if n < self.count - 1:
                        continue
                    whole, slab = slab.whole(), None
                if self.samples > 1:
                    whole = sums[k] = sums[k] + whole if k in sums else whole
                if sample in (0, self.samples - 1):
                    mean = whole / (sample + 1) if sample else whole
                    yield Piece(k + 1, sample + 1, 0, 0, mean[self._inside(mean)], True)

    def in_layers(self) -> Iterator[Piece]:
        """Layer after layer along the axis on which a layer is the smallest part of the volume."""
        size, padded = self.plan.size, self.plan.padded
        axis = int(np.argmin(np.divide(size, padded)))
        thin = self.how.num_classes * int(np.prod(padded)) // padded[axis] * size[axis] * len(self.kept)
        dtype = torch.float32 if 4 * thin <= BLEND_BUDGET else torch.float16
        slabs = {k: Slab(self.how.num_classes, padded, axis, size[axis], dtype) for k in self.kept}
        layers = sorted({start[axis] for start in self.plan.starts})
        for layer, following in zip(layers, [*layers[1:], padded[axis]], strict=True):
            members = [n for n, start in enumerate(self.plan.starts) if start[axis] == layer]
            for group in self._groups(members):
                for sample in range(self.samples):
                    for k, n, probability in self._run(group, sample):
                        slabs[k].add(self.plan.slices(n), probability, self.weight, 1.0 / self.samples)
                        del probability
                self.begun += len(group)
            for k, slab in slabs.items():
                for start, block in slab.take(following):
                    inside = block[self._inside(block, axis, start)]
                    last = start + block.shape[axis + 1] == padded[axis]
                    if last or inside.shape[axis + 1]:
                        yield Piece(k + 1, self.samples, axis, start, inside, last)

    def _run(self, members: Sequence[int], sample: int) -> Iterator[tuple[int, int, Tensor]]:
        """(step from 0, window, probability (C, *size) on the CPU) of the kept steps of some windows, step by step."""
        how, view = self.how, self.how.views[sample]
        groups = self._groups(members)
        runs = []
        for group in groups:
            denoiser, self.first = self.first or self._windows(group, view), None
            draw = partial(_noise, how.seed, sample, group)
            x_t = [draw(how.steps, (len(group), how.num_classes, *self.plan.size)).to(how.device)]
            runs.append(sample_steps(denoiser, self.process, x_t.pop(), draw, how.sampler))  # nobody else keeps it
        sums: dict[int, Tensor] = {}
        passes = self.count * how.steps * self.samples
        for k in range(how.steps):
            begun = self.begun
            for group, run in zip(groups, runs, strict=True):
                begun += len(group)
                how.tick(Pass(k + 1, begun, self.count, sample + 1, self.done / passes))
                x_start = [next(run)]
                self.done += len(group)
                if k not in self.kept and how.diffusion.fusion != "mean":
                    continue
                parts = list(self._probability(x_start.pop()))
                for n in group:
                    probability = parts.pop(0)
                    if how.diffusion.fusion == "mean":
                        sums[n] = sums[n] + probability if n in sums else probability
                        probability = sums[n] / (k + 1)
                    found = [probability.flip(view) if view else probability]
                    del probability  # while the next pass runs
                    if k in self.kept:
                        yield k, n, smoothed(found.pop(), how.smoothing)

    def _probability(self, x_start: Tensor) -> Tensor:
        """Of the network's x_0 (B, C, *size), on the CPU."""
        probability = x_to_probability(x_start.float()).cpu()
        if self.unbounded:  # x_0 from a predicted noise or v: no probabilities yet
            if not self.process.exclusive:
                return probability.clamp(0.0, 1.0)
            probability = probability.clamp_min(1e-6)
            probability = probability / probability.sum(1, keepdim=True)
        return probability

    def _groups(self, members: Sequence[int]) -> list[Sequence[int]]:
        """The windows that go through the network together."""
        return [members[n : n + self.how.batch] for n in range(0, len(members), self.how.batch)]

    def _windows(self, members: Sequence[int], view: tuple[int, ...]) -> "_Windows":
        parts = [self.padded[(slice(None), *self.plan.slices(n))] for n in members]
        images = [part.flip(view) if view else part for part in parts]
        return _Windows(self.how.network, _together(images), self.how.device, self.how.precision)

    def _inside(self, block: Tensor, axis: int = 0, start: int = 0) -> tuple[slice, ...]:
        """Without the padding at the volume's end; `block` begins at row `start` of `axis`."""
        stops = [n - start if place == axis else n for place, n in enumerate(self.shape)]
        return (slice(None), *(slice(0, max(0, stop)) for stop in stops))


def _padded(image: Tensor, plan: Windows) -> Tensor:
    padding = [n for have, want in zip(image.shape[:0:-1], plan.padded[::-1], strict=True) for n in (0, want - have)]
    return torch.nn.functional.pad(image, padding) if any(padding) else image


def _noise(seed: int, sample: int, members: Sequence[int], step: int, shape: Sequence[int]) -> Tensor:
    return _together([window_noise(seed, sample, n, step, tuple(shape[1:])) for n in members])


def _together(parts: Sequence[Tensor]) -> Tensor:
    """Each (any) -> (B, any); one alone, which may be large, is not copied."""
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


class _Windows:
    """Windows as a Denoiser: what the network keeps of the images is computed once, at the first step."""

    def __init__(self, network: nn.Module, images: Tensor, device: torch.device, precision: torch.dtype) -> None:
        self.network, self.images, self.device, self.precision = network, images, device, precision
        self.features: Features = ()

    def encode(self) -> Features:
        if not self.features:
            with torch.inference_mode(), autocast(self.device, self.precision):
                self.features = encode(self.network, self.images.to(self.device))
        return self.features

    def kept(self) -> int:
        """Bytes."""
        return sum(x.nbytes for x in self.encode())

    def __call__(self, mask: Tensor | None, t: Tensor) -> Tensor:
        features = self.encode()
        with torch.inference_mode(), autocast(self.device, self.precision):
            return denoise(self.network, features, mask, t).float()
