"""Layout of the Medical Segmentation Decathlon: `dataset.json` with `modality`, `labels` and the list `training`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from DiffSegLib.data.cases import Case, Dataset, image_files, inside, whole_cases
from DiffSegLib.data.files import case_name
from DiffSegLib.errors import InputError
from DiffSegLib.labels import labels_from_names, names_by_value
from DiffSegLib.schema import read_json


def read(folder: Path) -> Dataset | None:
    """The data set, or None where there is no `dataset.json`.

    Image and label paths are relative to the folder. Several channels lie in one 4D file, as the Decathlon stores them.
    Raises InputError that lists every missing file at once.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        entries = [(inside(folder, x["image"], path), inside(folder, x["label"], path)) for x in data["training"]]
        cases = tuple(Case(case_name(image), (image,), label) for image, label in entries)
        dataset = described(folder, data, cases)
    except KeyError as problem:
        raise InputError(f"{path}: lacks {problem}, which MSD's and nnU-Net's description of a data set has.") from None
    except (TypeError, ValueError, AttributeError, IndexError) as problem:
        raise InputError(f"{path}: is not in MSD or nnU-Net layout ({type(problem).__name__}: {problem}).") from None
    named = {case.label.name for case in cases} | {case.images[0].name for case in cases}
    unlisted = []
    for label in image_files(cases[0].label.parent) if cases else []:
        if label.name not in named and not (cases[0].images[0].parent / label.name).is_file():
            unlisted.append((case_name(label), f"image for label {label.name}"))
    cases, missing = whole_cases(folder, cases, unlisted)
    return replace(dataset, cases=cases, missing=missing)


def described(
    folder: Path, data: dict[str, Any], cases: tuple[Case, ...], missing: tuple[tuple[str, str], ...] = ()
) -> Dataset:
    """A data set with the names that an MSD-like `dataset.json` gives: label value -> name, channel -> modality.

    Labels written as name -> value, as nnU-Net has them, are taken too.
    """
    return Dataset(
        folder=folder,
        name=str(data.get("name", folder.name)),
        cases=cases,
        labels=labels_from_names(names_by_value(data["labels"]), str(folder / "dataset.json")),
        channels=tuple(str(data["modality"][key]) for key in sorted(data["modality"], key=int)),
        licence=str(data.get("licence", data.get("license", ""))),
        reference=str(data.get("reference", "")),
        missing=missing,
    )
