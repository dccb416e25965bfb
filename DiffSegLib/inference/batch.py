"""Many cases one after another: each is written whole or not at all, and one that fails does not stop the rest."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.data.cases import CHANNEL, image_files
from DiffSegLib.data.channels import read_case
from DiffSegLib.data.files import case_name, write_mask, write_volume
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.inference.predict import Prediction, Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.whole_files import write_text


@dataclass
class Outcome:
    """Names of the cases done and skipped, and the sentence for each that failed."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def find_cases(inputs: list[Path], channels: int = 1) -> list[tuple[str, tuple[Path, ...]]]:
    """(case name, image files) pairs, folders searched one level deep, in the order of names.

    channels: of the model; with several, the files CASE_0000, CASE_0001, ... of a folder are the channels of one case,
    and any other file must hold all channels itself. With one channel `_0000` is cut off where every file has it.
    Raises InputError for a missing path, a folder without images, two cases of one name, or a channel without file.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = image_files(path)
            if not found:
                raise InputError(f"{path}: holds no image (.nii.gz, .nii, .nrrd, .mha, .mhd, .png).")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such file or folder.")
    files = list(dict.fromkeys(files))
    first_channels = all(case_name(path).endswith("_0000") for path in files)
    cases: dict[str, list[Path]] = {}
    for path in files:
        name = case_name(path)
        stem = CHANNEL.sub("", name)
        if channels > 1 and stem != name and all(p.parent == path.parent for p in cases.get(stem, [])):
            if (number := int(name[-4:])) != len(cases.setdefault(stem, [])):
                raise InputError(f"{path}: is channel {number} of case {stem}, whose channel {number - 1} is missing.")
            cases[stem].append(path)
            continue
        name = stem if first_channels else name
        if name in cases:
            raise InputError(f"{path}: has the same case name as {cases[name][0]}; their outputs would collide.")
        cases[name] = [path]
    for name, paths in cases.items():
        if len(paths) not in (1, channels):
            raise InputError(f"case {name}: has {len(paths)} channel files; the model needs {channels}.")
    return [(name, tuple(paths)) for name, paths in cases.items()]


def predict_cases(
    predictor: Predictor,
    cases: list[tuple[str, tuple[Path, ...]]],
    output: Path,
    options: SegmentOptions,
    *,
    file_format: str = "seg.nrrd",
    skip_existing: bool = False,
    listener: events.Listener = events.silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Segment each (name, files) into `output`; `x.json` is written last, so a case with it is complete."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; name a folder for the masks.")
    outcome = Outcome()
    channels = len(predictor.model.card.channels)
    for number, (name, paths) in enumerate(cases):
        if skip_existing and (output / f"{name}.json").is_file() and (output / f"{name}.{file_format}").is_file():
            outcome.skipped.append(name)
            continue

        def relay(event: events.Event, number: int = number, name: str = name) -> None:
            if event["event"] == "progress":
                fraction = (number + event["fraction"]) / len(cases)
                event = {**event, "fraction": fraction, "text": f"{name}: {event['text']}"}
            listener(event)

        try:
            volume = read_case(paths, channels)
            prediction = predictor(volume, options, relay, cancelled=cancelled)
            _write_case(output, name, file_format, prediction, volume.affine, predictor)
            outcome.done.append(name)
        except Cancelled:
            raise
        except InputError as problem:
            outcome.failed[name] = str(problem)
        except (RuntimeError, MemoryError) as problem:
            outcome.failed[name] = f"{paths[0]}: failed unexpectedly ({type(problem).__name__}: {problem})"
    return outcome


def _write_case(
    output: Path, name: str, file_format: str, prediction: Prediction, affine: Any, predictor: Predictor
) -> None:
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
    write_text(output / f"{name}.json", json.dumps(record, indent=2) + "\n")
