"""Jobs: what a worker process is asked to do, as plain data on one line of JSON.

A request is `{"do": "segment", "id": "...", ...}`, `{"do": "cancel", "id": "..."}` or `{"do": "quit"}`.
Arrays travel as `.npy` files, never through the pipe.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from DiffSegLib.errors import InputError

SAMPLERS = ("ddim", "ddpm")
DEVICES = ("auto", "cpu", "cuda")
MAX_STEPS = 1000


class Job(Protocol):
    """What a worker's client sends: any task of serving.process.TASKS."""

    @property
    def id(self) -> str:
        """Tells the job's events from those of others."""

    def to_line(self) -> str:
        """The request as one line of JSON."""


@dataclass(frozen=True)
class PlanJob:
    """Look through a labelled folder and propose a training.

    assignments: what is decided already, `section.key=value` as for `diffseg train --set`. memory: GiB that the
    proposal may plan with.
    """

    id: str
    data: str
    preset: str = "default"
    assignments: tuple[str, ...] = ()
    memory: float = 8.0

    def to_line(self) -> str:
        """The request as one line of JSON."""
        return json.dumps({"do": "plan", **asdict(self)}, allow_nan=False)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "PlanJob":
        """Parse a request; raises InputError."""
        try:
            texts = tuple(str(item) for item in data.get("assignments", ()))
            memory = float(data.get("memory", 8.0))
            return PlanJob(str(data["id"]), str(data["data"]), str(data.get("preset", "default")), texts, memory)
        except (KeyError, TypeError, ValueError) as problem:
            raise InputError(f"a plan job needs an id and a data folder ({problem!r}).") from None


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment; the same options for the window, the console, the batch and the command line.

    `seed` fixes the noise, `samples` > 1 draws several segmentations and averages them.
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
                ranges = tuple((int(low), int(high)) for low, high in self.roi)
            except (TypeError, ValueError):
                raise InputError(f"roi is {self.roi!r}; it must be one (start, end) pair of voxels per axis.") from None
            if any(low < 0 or high <= low for low, high in ranges):
                raise InputError(f"roi is {ranges}; each (start, end) needs 0 <= start < end.")
            object.__setattr__(self, "roi", ranges)


@dataclass(frozen=True)
class SegmentJob:
    """Segment one volume.

    `image` is a `.npy` file of shape (K, J, I) or (channels, K, J, I); `ijk_to_lps` is the 4 x 4 matrix in mm (rows),
    LPS world, of voxel (i, j, k). The worker writes `mask.npy` (uint8, K x J x I, label values) and with
    `options.keep_steps` also `step-1.npy` ... into `output`, each before the event that names it.
    """

    id: str
    model: str
    image: str
    ijk_to_lps: tuple[tuple[float, ...], ...]
    output: str
    options: SegmentOptions = field(default_factory=SegmentOptions)

    def to_line(self) -> str:
        """The request as one line of JSON."""
        return json.dumps({"do": "segment", **asdict(self)}, allow_nan=False)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "SegmentJob":
        """Parse a request; raises InputError that names the wrong or missing key."""
        known = {f.name for f in fields(SegmentJob)}
        body = {key: value for key, value in data.items() if key != "do"}
        if set(body) - known:
            raise InputError(f"unknown key {sorted(set(body) - known)[0]!r} in a segment job; allowed: {sorted(known)}")
        missing = [name for name in ("id", "model", "image", "ijk_to_lps", "output") if name not in body]
        if missing:
            raise InputError(f"a segment job lacks {missing[0]!r}.")
        try:
            matrix = tuple(tuple(float(x) for x in row) for row in body["ijk_to_lps"])
        except (TypeError, ValueError):
            matrix = ()
        if [len(row) for row in matrix] != [4, 4, 4, 4]:
            raise InputError("ijk_to_lps of a segment job must be four rows of four numbers.")
        return SegmentJob(
            id=str(body["id"]),
            model=str(body["model"]),
            image=str(body["image"]),
            ijk_to_lps=matrix,
            output=str(body["output"]),
            options=options_from_json(body.get("options") or {}),
        )


def options_from_json(data: Mapping[str, Any]) -> SegmentOptions:
    """Segment options from a dictionary; raises InputError that names a wrong key or value."""
    known = [f.name for f in fields(SegmentOptions)]
    unknown = set(data) - set(known)
    if unknown:
        raise InputError(f"unknown option {sorted(unknown)[0]!r}; allowed: {', '.join(known)}")
    return SegmentOptions(**data)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; allowed: {', '.join(allowed)}.")
