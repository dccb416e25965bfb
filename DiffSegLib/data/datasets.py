"""Labelled data sets without code: a folder in the layout of the Medical Segmentation Decathlon."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DiffSegLib.data.files import case_name
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label, labels_from_names


@dataclass(frozen=True)
class Case:
    """One labelled case: image files (one per channel) and the label map."""

    name: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class Dataset:
    """A data set: its cases, labels (background left out), modality per channel, and where it comes from."""

    folder: Path
    name: str
    cases: tuple[Case, ...]
    labels: tuple[Label, ...]
    channels: tuple[str, ...]
    licence: str = ""
    reference: str = ""


def load_dataset(folder: Path) -> Dataset:
    """Read `dataset.json` of an MSD folder and check that each named file is there.

    Raises InputError that lists every missing file at once.
    """
    path = folder / "dataset.json"
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder.")
    if not path.is_file():
        raise InputError(f"{folder}: holds no dataset.json; a data set in MSD layout is needed.")
    data = read_json(path)
    try:
        names = {int(value): str(name) for value, name in data["labels"].items()}
        entries = [(folder / item["image"], folder / item["label"]) for item in data["training"]]
        channels = tuple(str(data["modality"][key]) for key in sorted(data["modality"], key=int))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InputError(f"{path}: is not in MSD layout ({type(problem).__name__}: {problem}).") from None
    cases = tuple(Case(case_name(image), (image,), label) for image, label in entries)
    _check_files(folder, cases)
    return Dataset(
        folder=folder,
        name=str(data.get("name", folder.name)),
        cases=cases,
        labels=labels_from_names(names),
        channels=channels,
        licence=str(data.get("licence", data.get("license", ""))),
        reference=str(data.get("reference", "")),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises InputError naming the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: is no readable JSON file ({problem}).") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must hold one JSON object.")
    return data


def _check_files(folder: Path, cases: Iterable[Case]) -> None:
    cases = list(cases)
    if not cases:
        raise InputError(f"{folder}: dataset.json names no training cases.")
    problems = [f"image {path.name} of case {c.name}" for c in cases for path in c.images if not path.is_file()]
    problems += [f"label {c.label.name} of case {c.name}" for c in cases if not c.label.is_file()]
    named = {c.label.name for c in cases}
    labels = sorted(cases[0].label.parent.glob("*.nii.gz"))
    known_images = {path.name for c in cases for path in c.images}
    for label in labels:
        image = cases[0].images[0].parent / label.name
        if label.name not in named and label.name not in known_images and not image.is_file():
            problems.append(f"image for label {label.name}")
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise InputError(f"{folder}: missing: {shown}.")
