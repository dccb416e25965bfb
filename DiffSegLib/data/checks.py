"""Everything that is wrong with a data set, found before training starts and told all at once.

Each case is read whole once; what its fingerprint needs is noted on the way.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from DiffSegLib import events
from DiffSegLib.data import files
from DiffSegLib.data.cases import Case, Dataset
from DiffSegLib.data.channels import difference, read_case
from DiffSegLib.data.volume import orientation_of
from DiffSegLib.errors import InputError

PERCENTILES = (0.5, 50.0, 99.5)


@dataclass(frozen=True)
class Facts:
    """One case in canonical axes (z, y, x): shape in voxels, spacing in mm, intensity percentiles per channel.

    voxels: label value -> voxels that have it (background left out). notes: what was mended when it was read.
    content: a checksum of image and label, by which a case is known again.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    intensities: tuple[tuple[float, ...], ...]
    voxels: dict[int, int]
    notes: tuple[str, ...] = ()
    content: str = ""

    def plane(self, dims: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Shape and spacing along the axes that a network of `dims` dimensions sees; in 2D without one of one voxel."""
        keep = [axis for axis in range(3) if dims == 3 or axis != self.shape.index(1)]
        return tuple(self.shape[a] for a in keep), tuple(self.spacing[a] for a in keep)


@dataclass
class Findings:
    """facts: of each good case, by name. problems: sentences for each bad case; those of the whole set under ''."""

    facts: dict[str, Facts] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def message(self, dataset: Dataset, missing: Sequence[tuple[str, str]] = ()) -> str:
        """All problems, a line each, and what can be done. missing: as of the data set, where that is one of them."""
        lines = [f"  {text}" for texts in self.problems.values() for text in texts]
        bad = len((self.problems.keys() | {name for name, _ in missing}) - {""})
        total = len(self.facts) + bad
        head = f"{dataset.folder}: {bad} of {total} cases cannot be used:" if bad else f"{dataset.folder}:"
        advice = "Correct this, or train without what is wrong with --skip-bad."
        if len(self.facts) < 2:
            advice = "Correct this; without what is wrong too little is left to train on."
        return "\n".join([head, *lines, *(f"  {text}" for text in self.warnings), advice])


def examine(dataset: Dataset, cases: Sequence[Case], listener: events.Listener = events.silent) -> Findings:
    """Read and check every case; nothing is raised for a bad one, it is told in the findings."""
    found = Findings()
    for n, case in enumerate(cases):
        listener(events.make("progress", fraction=0.0, text=f"checking case {n + 1} of {len(cases)}"))
        facts, problems = examine_case(dataset, case)
        if problems or facts is None:
            found.problems[case.name] = problems
        else:
            found.facts[case.name] = facts
            found.warnings += facts.notes
    _leave_out_other_dimensions(dataset, cases, found)
    wanted = {f"region {region.name}": set(region.values) for region in dataset.regions}
    for what, values in (wanted or {f"label {x.value} ({x.name})": {x.value} for x in dataset.labels}).items():
        holders = [name for name, facts in found.facts.items() if values & facts.voxels.keys()]
        if found.facts and not holders:
            found.problems.setdefault("", []).append(f"{dataset.folder}: no usable case holds {what}.")
        elif len(holders) == 1 and len(found.facts) > 1:
            where = f"{what[0].upper()}{what[1:]} occurs in case {holders[0]} only"
            found.warnings.append(f"{where}: it is not learnt or not judged.")
    if len(cases) == 1:
        text = f"{dataset.folder}: holds one case only; at least two are needed, one to validate on."
        found.problems.setdefault("", []).append(text)
    return found


def examine_case(dataset: Dataset, case: Case) -> tuple[Facts | None, list[str]]:
    """The facts of one case, and a sentence for each thing that is wrong with it."""
    problems: list[str] = []
    volume = label = affine = None
    try:
        volume = read_case(case.images, len(dataset.channels))
    except InputError as problem:
        problems.append(str(problem))
    try:
        label, affine = files.read_label(case.label)
    except InputError as problem:
        problems.append(str(problem))
    if volume is not None and len(volume.array) != len(dataset.channels):
        problems.append(
            f"{case.images[0]}: has {len(volume.array)} channel(s); the data set has {len(dataset.channels)} "
            f"({', '.join(dataset.channels)})."
        )
    intensities, notes = [], []
    for n, channel in enumerate(volume.array if volume is not None else ()):
        thinned = channel.ravel()[:: max(1, channel.size // 100_000)]
        low, middle, high = (float(x) for x in np.percentile(thinned, PERCENTILES))
        intensities.append((low, middle, high))
        is_constant, where = channel.min() == channel.max(), case.images[n if len(case.images) > 1 else 0]
        what = "holds one value only" if is_constant else "almost all of it has one value"
        if is_constant or (low == high and len(dataset.channels) == 1):
            problems.append(f"{where}: {what}; there is nothing to learn from.")
        elif low == high:
            notes.append(f"{where}: {what}; of this channel nothing is left when it is normalised.")
    if label is not None and affine is not None:
        values, counts = np.unique(label, return_counts=True)
        voxels = {int(v): int(n) for v, n in zip(values, counts, strict=True) if v != 0}
        unknown = sorted(set(voxels) - {entry.value for entry in dataset.labels})
        if unknown:
            named = ", ".join(f"{entry.value} {entry.name}" for entry in dataset.labels)
            listed = ", ".join(map(str, unknown[:10]))
            problems.append(f"{case.label}: holds label {listed}, which the data set does not name (it has {named}).")
        if not voxels:
            problems.append(f"{case.label}: is empty (0 everywhere).")
        if volume is not None and (other := difference(label.shape, affine, volume.array.shape[1:], volume.affine)):
            problems.append(f"{case.label}: does not lie on the grid of its image {case.images[0].name} ({other}).")
    if problems or volume is None or label is None:
        return None, problems
    axes = orientation_of(volume.affine).axes
    shape, spacing = volume.array.shape[1:], volume.spacing
    turned = (tuple(shape[a] for a in axes), tuple(spacing[a] for a in axes))
    content = zlib.crc32(np.ascontiguousarray(volume.array).data, zlib.crc32(np.ascontiguousarray(label).data))
    return Facts(*turned, tuple(intensities), voxels, (*volume.notes, *notes), f"{content:08x}"), []


def _leave_out_other_dimensions(dataset: Dataset, cases: Sequence[Case], found: Findings) -> None:
    """A network is for slices or for volumes: of a mixed set, the cases of the rarer kind are told as problems."""
    flat = {name for name, facts in found.facts.items() if 1 in facts.shape}
    mostly_flat = 2 * len(flat) > len(found.facts)
    for case in cases:
        facts = found.facts.get(case.name)
        if facts is None or (case.name in flat) == mostly_flat:
            continue
        size = " x ".join(map(str, facts.shape))
        most = "single slices" if mostly_flat else "volumes"
        found.problems[case.name] = [f"{case.images[0]}: has {size} voxels, and most cases of the data set are {most}."]
        del found.facts[case.name]
