"""What changed from step to step: Dice to the step before, and the volume of each structure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from DiffSegLib.scene import nodes

if TYPE_CHECKING:
    from DiffSegLib.scene.logic import Segmentation


@dataclass(frozen=True)
class Change:
    """One step. `dice` to the step before by label value, without structures that neither has, empty at step 1.

    counts: voxels by label value. changed: voxels whose label is another one than at the step before.
    """

    counts: np.ndarray
    dice: dict[int, float]
    changed: int = 0

    @property
    def meanDice(self) -> float | None:
        """Over the structures; None where there is nothing to compare."""
        return sum(self.dice.values()) / len(self.dice) if self.dice else None


def compare(mask: np.ndarray, before: np.ndarray | None) -> Change:
    """The change to the mask `before`, both (K, J, I) label values."""
    filled = mask.any(axis=(1, 2)) if before is None else mask.any(axis=(1, 2)) | before.any(axis=(1, 2))
    places = np.flatnonzero(filled).tolist()
    rows = slice(places[0], places[-1] + 1) if places else slice(0)  # of a head mostly a few
    mask = mask[rows]
    if before is None:
        return Change(np.bincount(mask[mask > 0], minlength=256), {})
    before = before[rows]
    inside = (mask | before) > 0
    now, then = mask[inside], before[inside]
    counts, earlier = np.bincount(now, minlength=256), np.bincount(then, minlength=256)
    both = np.bincount(now[now == then], minlength=256)
    counts[0] = earlier[0] = 0  # of the background only what the other mask covers was looked at
    present = np.flatnonzero(counts + earlier)
    dice = 2.0 * both[present] / (counts + earlier)[present]
    found = {int(value): float(x) for value, x in zip(present, dice, strict=True)}
    return Change(counts, found, int(np.count_nonzero(now != then)))


def changes(run: "Segmentation") -> list[Change]:
    """One entry for each mask that the run has so far; each is worked out once."""
    known = run.changes
    for number in range(len(known), len(run.masks)):
        known.append(compare(run.masks[number], run.masks[number - 1] if number else None))
    return known


def volumes_ml(run: "Segmentation", change: Change) -> dict[int, float]:
    """Label value -> volume in ml, of all labels of the run."""
    voxel = abs(float(np.linalg.det(nodes.ijk_to_lps(run.volume)[:3, :3]))) / 1000.0
    return {label.value: float(change.counts[label.value]) * voxel for label in run.labels}
