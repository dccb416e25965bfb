"""Jobs: what a worker process is asked to do, as plain data on one line of JSON.

A request is `{"do": TASK, "id": "...", ...}`, `{"do": "cancel", "id": "..."}` or `{"do": "quit"}`.
Arrays travel as `.npy` files, never through the pipe.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from operator import index
from typing import Any, ClassVar, Self

from DiffSegLib.errors import InputError
from DiffSegLib.schema import build

SAMPLERS = ("ddim", "ddpm")
DEVICES = ("auto", "cpu", "cuda")
TEMPORARY = "DiffSeg-"  # how the name of a job's folder begins, where it belongs to nobody but the job
MAX_STEPS = 100_000  # as many noise levels as a schedule may have; a model's own number is checked with it
StoredMask = tuple[str, int]  # a label map's file, and the value of one structure in it


@dataclass(frozen=True)
class Job:
    """What a worker is asked to do, see serving.process.TASKS; its id tells its events from those of others."""

    task: ClassVar[str]
    id: str

    def to_line(self) -> str:
        """The request as one line of JSON."""
        return json.dumps({"do": self.task, **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The job of a request; raises InputError that names an unknown, wrong or missing key."""
        job: Self = build(cls, {key: value for key, value in data.items() if key != "do"}, f"{cls.task} job")
        return job


@dataclass(frozen=True)
class DescribeJob(Job):
    """Say what the worker has: versions, device, memory."""

    task = "describe"


@dataclass(frozen=True)
class PlanJob(Job):
    """Look through a labelled folder and propose a training.

    assignments: what is decided already, `section.key=value` as for `diffseg train --set`. memory: GiB that the
    proposal may plan with.
    """

    task = "plan"
    data: str
    preset: str = "default"
    assignments: tuple[str, ...] = ()
    memory: float = 8.0


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment; the same options for the window, the console, the batch and the command line.

    `seed` fixes the noise, `samples` > 1 draws several segmentations and averages them; of a model that
    was trained on mirrored images, every second one and so on is drawn from the mirrored image.
    `roi` is ((k0, k1), (j0, j1), (i0, i1)): half-open voxel ranges of the input array; None is the whole volume.
    """

    steps: int = 5
    sampler: str = "ddim"
    samples: int = 1
    seed: int = 0
    device: str = "auto"
    roi: tuple[tuple[int, int], ...] | None = None
    keep_steps: bool = False
    uncertainty: bool = False

    def __post_init__(self) -> None:
        _check_int("steps", self.steps, 1, MAX_STEPS)
        _check_int("samples", self.samples, 1, 100)
        _check_int("seed", self.seed, 0, 2**63 - 1)
        _check_choice("sampler", self.sampler, SAMPLERS)
        _check_choice("device", self.device, DEVICES)
        if self.roi is not None:
            try:
                ranges = tuple((index(low), index(high)) for low, high in self.roi)  # no fractions, which would be cut
            except (TypeError, ValueError):
                raise InputError(f"roi is {self.roi!r}; it must be one (start, end) pair of voxels per axis.") from None
            if any(low < 0 or high <= low for low, high in ranges):
                raise InputError(f"roi is {ranges}; each (start, end) needs 0 <= start < end.")
            object.__setattr__(self, "roi", ranges)


@dataclass(frozen=True)
class Channel:
    """A further volume of a case, on a grid of its own: as `image`, `ijk_to_lps` and `name` of SegmentJob."""

    image: str
    ijk_to_lps: tuple[tuple[float, ...], ...]
    name: str = "A further channel"


@dataclass(frozen=True)
class SegmentJob(Job):
    """Segment one volume.

    `image` is a `.npy` file of shape (K, J, I) or (channels, K, J, I), called `name` in messages; `ijk_to_lps` is the
    4 x 4 matrix in mm (rows), LPS world, of voxel (i, j, k). `channels` are resampled to its grid. The worker writes
    masks (uint8, K x J x I, label values) into `output`, each before the event that names it: with `options.keep_steps`
    `step-1.npy` ..., and `mask.npy` where the answer is not the last of them. A `step` event says from where to where
    along K its mask is `filled`, and the `crc32` of its voxels. In an `output` that is a temporary folder (TEMPORARY)
    the images are removed once they are read.
    """

    task = "segment"
    model: str
    image: str
    ijk_to_lps: tuple[tuple[float, ...], ...]
    output: str
    options: SegmentOptions = field(default_factory=SegmentOptions)
    name: str = "The volume"
    channels: tuple[Channel, ...] = ()


@dataclass(frozen=True)
class EvaluateJob(Job):
    """Compare structures: `pairs` of (prediction, reference), each a `.npy` label map (K, J, I) and the value in it.

    All label maps lie on one grid, whose `spacing` is in mm in array order (k, j, i).
    """

    task = "evaluate"
    pairs: tuple[tuple[StoredMask, StoredMask], ...]
    spacing: tuple[float, ...]
    tolerance_mm: float = 1.0

    def __post_init__(self) -> None:
        if len(self.spacing) != 3 or not all(_is_number(x) and x > 0 for x in self.spacing):
            raise InputError(f"spacing is {self.spacing!r}; it must be three numbers of mm above zero.")
        if not _is_number(self.tolerance_mm) or self.tolerance_mm < 0:
            raise InputError(f"tolerance is {self.tolerance_mm!r}; it must be a number of mm, not below zero.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class PrepareJob(Job):
    """Load a model in advance, so that the first segmentation with it starts at once."""

    task = "prepare"
    model: str
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_choice("device", self.device, DEVICES)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; allowed: {', '.join(allowed)}.")
