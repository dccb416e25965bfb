"""The task `evaluate`: the measures of pairs of structures (jobs.EvaluateJob)."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from DiffSegLib import events
from DiffSegLib.errors import Cancelled
from DiffSegLib.evaluation.metrics import score
from DiffSegLib.events import Listener
from DiffSegLib.jobs import EvaluateJob, StoredMask
from DiffSegLib.serving.arrays import load_array
from DiffSegLib.serving.session import Fields, Session

Layers = dict[str, tuple[np.ndarray, list[Any]]]  # file -> label map, and the box of each value from 1 on


def run(session: Session, request: Fields, send: Listener, cancelled: Callable[[], bool]) -> Fields:
    """Measure pair after pair; `scores` of the result has one entry for each, with the fields of `Scores`.

    Its numbers are text ("inf", "nan"): JSON has neither.
    """
    job = EvaluateJob.from_json(request)
    layers: Layers = {}
    scores = []
    for done, pair in enumerate(job.pairs, start=1):
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        prediction, reference = _in_one_box(pair, layers)
        found = score(prediction, reference, 1, job.spacing, job.tolerance_mm)
        scores.append({key: str(value) for key, value in asdict(found).items()})
        text = f"structure {done} of {len(job.pairs)}"
        send(events.make("progress", fraction=done / len(job.pairs), text=text))
    return {"scores": scores, "tolerance_mm": job.tolerance_mm}


def _in_one_box(pair: tuple[StoredMask, StoredMask], layers: Layers) -> list[np.ndarray]:
    """Both masks, cut to the smallest box that holds them: outside is nothing of either, and no measure changes."""
    boxes = []
    for file, value in pair:
        if file not in layers:
            array = load_array(file)
            layers[file] = array, find_objects(array)
        boxes += [box for box in layers[file][1][value - 1 : value] if box is not None]
    whole = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    return [layers[file][0][whole or (slice(1),) * 3] == value for file, value in pair]
