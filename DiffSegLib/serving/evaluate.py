"""The task `evaluate`: the measures of pairs of structures (jobs.EvaluateJob)."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.evaluation.metrics import score
from DiffSegLib.jobs import EvaluateJob, StoredMask
from DiffSegLib.serving.arrays import load_array
from DiffSegLib.serving.session import Session

Box = list[tuple[int, int]]  # half-open range of voxels of the grid along each axis


def run(
    session: Session, request: dict[str, Any], send: Callable[[events.Event], None], cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """Measure pair after pair; `scores` of the result has one entry for each, with the fields of `Scores`.

    Its numbers are text ("inf", "nan"): JSON has neither.
    """
    job = EvaluateJob.from_json(request)
    layers: dict[str, _Layer] = {}
    scores = []
    for done, pair in enumerate(job.pairs):
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        for mask in pair:
            if mask.file not in layers:
                layers[mask.file] = _Layer(mask.file)
        prediction, reference = _in_one_box(pair, layers)
        found = score(prediction, reference, 1, job.spacing, job.tolerance_mm)
        scores.append({key: str(value) for key, value in asdict(found).items()})
        text = f"structure {done + 1} of {len(job.pairs)}"
        send(events.make("progress", fraction=(done + 1) / len(job.pairs), text=text))
    return {"scores": scores, "tolerance_mm": job.tolerance_mm}


class _Layer:
    """A label map that several structures share, and where each lies in it."""

    def __init__(self, file: str) -> None:
        self.array = load_array(file)
        if self.array.ndim != 3 or self.array.dtype.kind not in "ui":
            raise InputError(f"{file}: has shape {self.array.shape}; whole numbers of shape (K, J, I) are needed.")
        self.boxes = find_objects(self.array) if self.array.size else []

    def box(self, mask: StoredMask) -> Box | None:
        """Where the mask lies on the grid; None if it is empty."""
        found = self.boxes[mask.value - 1] if 0 < mask.value <= len(self.boxes) else None
        if found is None:
            return None
        return [(axis.start + at, axis.stop + at) for axis, at in zip(found, mask.corner, strict=True)]


def _in_one_box(pair: tuple[StoredMask, StoredMask], layers: dict[str, _Layer]) -> list[np.ndarray]:
    """Both masks, cut to the smallest box that holds them: outside is nothing of either, and no measure changes."""
    boxes = [layers[mask.file].box(mask) for mask in pair]
    used = [box for box in boxes if box is not None]
    if not used:
        return [np.zeros((1, 1, 1), dtype=np.uint8)] * 2
    whole = [(min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*used, strict=True)]
    masks = []
    for mask, box in zip(pair, boxes, strict=True):
        out = np.zeros([b - a for a, b in whole], dtype=np.uint8)
        if box is not None:
            there = tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(box, whole, strict=True))
            here = tuple(slice(a - at, b - at) for (a, b), at in zip(box, mask.corner, strict=True))
            out[there] = layers[mask.file].array[here] == mask.value
        masks.append(out)
    return masks
