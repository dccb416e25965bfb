"""The task `segment`: one volume, its mask after every step (jobs.SegmentJob)."""

import contextlib
import itertools
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from DiffSegLib import events
from DiffSegLib.data.channels import on_first_grid
from DiffSegLib.data.files import check_digits, mend
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.events import Listener
from DiffSegLib.inference.predict import volumes_ml
from DiffSegLib.inference.windows import noise_levels
from DiffSegLib.jobs import TEMPORARY, Channel, SegmentJob
from DiffSegLib.network.memory import enough_for
from DiffSegLib.serving.arrays import filled, load_array, save_array
from DiffSegLib.serving.session import Fields, Session


def run(session: Session, request: Fields, send: Listener, cancelled: Callable[[], bool]) -> Fields:
    """Run one job and return the fields of its result event; a `step` event names each mask as it is made."""
    job = SegmentJob.from_json(request)
    output = Path(job.output)
    predictor = session.predictor(job.model, job.options.device)
    parts: list[SegmentJob | Channel] = [job, *job.channels]
    with enough_for(job.name):
        volume = on_first_grid(load_volume(part) for part in parts)
    if output.name.startswith(TEMPORARY):  # the job's own: the parent would remove them, and stand still meanwhile
        for part in parts:
            if Path(part.image).parent == output:
                with contextlib.suppress(OSError):  # what Windows keeps the parent removes later
                    Path(part.image).unlink()
    labels = predictor.model.card.labels
    noise = noise_levels(predictor.model.card.diffusion, job.options.steps)
    paths: dict[int, str] = {}
    numbers = itertools.count(1)  # no file is written twice: the parent may be reading it
    shown = np.empty(0)

    def on_step(step: int, steps: int, mask: np.ndarray) -> None:
        nonlocal shown
        shown = mask
        path = paths[step] = save_array(output / f"step-{next(numbers)}.npy", mask)
        sizes = {str(value): ml for value, ml in volumes_ml(mask, volume, [label.value for label in labels]).items()}
        facts: Fields = {"step": step, "steps": steps, "noise": noise[step - 1], "fraction": step / steps}
        facts |= {"filled": filled(mask), "crc32": zlib.crc32(np.ascontiguousarray(mask).data)}
        send(events.make("step", **facts, mask=path, volumes_ml=sizes))

    prediction = predictor(volume, job.options, send, on_step if job.options.keep_steps else None, cancelled)
    is_last = np.array_equal(shown, prediction.mask)
    result = {
        "mask": paths[job.options.steps] if is_last else save_array(output / "mask.npy", prediction.mask),
        "steps": [paths[step] for step in sorted(paths)],
        "labels": [label.to_json() for label in labels],
        "volumes_ml": {str(value): ml for value, ml in prediction.volumes_ml.items()},
        "warnings": prediction.warnings,
        "provenance": prediction.provenance,
        "options": asdict(job.options),
    }
    if prediction.uncertainty is not None:
        result["uncertainty"] = save_array(output / "uncertainty.npy", prediction.uncertainty)
    return result


def load_volume(part: SegmentJob | Channel) -> Volume:
    """The voxels of a job or of one of its channels as float32; raises InputError naming what is wrong."""
    if [len(row) for row in part.ijk_to_lps] != [4, 4, 4, 4]:
        raise InputError(f"{part.name}: ijk_to_lps must be four rows of four numbers.")
    array = load_array(part.image)
    if array.ndim not in (3, 4) or array.size == 0:
        raise InputError(f"{part.image}: has shape {array.shape}; (K, J, I) or (channels, K, J, I) is needed.")
    array = array[None] if array.ndim == 3 else array
    check_digits(array, part.name)
    array = np.asarray(array, dtype=np.float32)
    return Volume(array, np.array(part.ijk_to_lps, dtype=np.float64), part.name, mend(array, part.name))
