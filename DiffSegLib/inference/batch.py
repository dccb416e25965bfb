"""Many cases one after another: each is written whole or not at all, and one that fails does not stop the rest."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.data.files import case_name, is_image_file, read, write_mask, write_volume
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.inference.predict import Prediction, Predictor
from DiffSegLib.jobs import SegmentOptions


@dataclass
class Outcome:
    """Names of the cases done and skipped, and the sentence for each that failed."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def find_cases(inputs: list[Path]) -> list[tuple[str, Path]]:
    """(case name, image file) pairs, folders searched one level deep, in the order of names.

    Raises InputError for a missing path, a folder without images, or two files of one case name.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.is_file() and is_image_file(p) and not p.name.startswith("."))
            if not found:
                raise InputError(f"{path}: holds no image (.nii.gz, .nii, .nrrd, .mha, .mhd).")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such file or folder.")
    cases: dict[str, Path] = {}
    for path in files:
        name = case_name(path)
        if name in cases and cases[name] != path:
            raise InputError(f"{path}: has the same case name as {cases[name]}; their outputs would collide.")
        cases[name] = path
    return list(cases.items())


def predict_cases(
    predictor: Predictor,
    cases: list[tuple[str, Path]],
    output: Path,
    options: SegmentOptions,
    *,
    file_format: str = "seg.nrrd",
    skip_existing: bool = False,
    listener: events.Listener = events.silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Segment each (name, file) into `output`; `x.json` is written last, so a case with it is complete."""
    outcome = Outcome()
    for number, (name, path) in enumerate(cases):
        if skip_existing and (output / f"{name}.json").is_file() and (output / f"{name}.{file_format}").is_file():
            outcome.skipped.append(name)
            continue

        def relay(event: events.Event, number: int = number, name: str = name) -> None:
            if event["event"] == "progress":
                fraction = (number + event["fraction"]) / len(cases)
                event = {**event, "fraction": fraction, "text": f"{name}: {event['text']}"}
            listener(event)

        try:
            volume = read(path)
            prediction = predictor(volume, options, relay, cancelled=cancelled)
            _write_case(output, name, file_format, prediction, volume.affine, predictor)
            outcome.done.append(name)
        except Cancelled:
            raise
        except InputError as problem:
            outcome.failed[name] = str(problem)
        except (RuntimeError, MemoryError) as problem:
            outcome.failed[name] = f"{path}: failed unexpectedly ({type(problem).__name__}: {problem})"
    return outcome


def _write_case(
    output: Path, name: str, file_format: str, prediction: Prediction, affine: Any, predictor: Predictor
) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(f"{output}: cannot be created ({problem.strerror or problem}).") from None
    labels = predictor.model.card.labels
    for step, mask in enumerate(prediction.steps, start=1):
        write_mask(output / f"{name}.step-{step}.{file_format}", mask, affine, labels)
    if prediction.uncertainty is not None:
        write_volume(output / f"{name}.uncertainty.nrrd", prediction.uncertainty, affine)
    write_mask(output / f"{name}.{file_format}", prediction.mask, affine, labels)
    names = {label.value: label.name for label in labels}
    record = {
        "case": name,
        "volumes_ml": {names[value]: ml for value, ml in prediction.volumes_ml.items()},
        "labels": [label.to_json() for label in labels],
        **prediction.provenance,
    }
    aside = output / f".{name}.json.{os.getpid()}.part"
    aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, output / f"{name}.json")
