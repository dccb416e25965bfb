"""Two folders of masks become one table: files are paired by case name, and a pair that cannot be measured is named.

One bad case never stops the others.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from DiffSegLib import events
from DiffSegLib.data.cases import image_files
from DiffSegLib.data.channels import difference
from DiffSegLib.data.files import case_name, header_reader, read_label
from DiffSegLib.data.layouts.nnunet import regions_of
from DiffSegLib.data.outputs import BESIDE
from DiffSegLib.errors import InputError
from DiffSegLib.evaluation.metrics import ABSENT, Scores, score
from DiffSegLib.labels import Label, names_by_value
from DiffSegLib.schema import read_json


@dataclass(frozen=True)
class Row:
    """The scores of one structure in one case."""

    case: str
    label: int
    name: str
    scores: Scores


@dataclass
class Table:
    """Rows by case and label; `labels` is value -> name; `problems` is case -> why it is not in the rows."""

    rows: list[Row] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    tolerance_mm: float = 1.0

    @property
    def cases(self) -> list[str]:
        """Names of the measured cases, in order."""
        return list(dict.fromkeys(row.case for row in self.rows))


def evaluate_folders(
    prediction: Path,
    reference: Path,
    *,
    tolerance_mm: float = 1.0,
    predicted_only: bool = False,
    listener: events.Listener = events.silent,
) -> Table:
    """Measure every case of two folders of label maps (.seg.nrrd, .nii.gz, .nii, .nrrd, .mha, .mhd), or of two files.

    Every value above 0 that occurs is measured, named by the `.seg.nrrd` files, by the records that `predict` writes
    beside its masks, or by a `dataset.json` in the reference folder or above it, which may ask for regions instead.
    `predicted_only` leaves out cases without a prediction. `tolerance_mm` is for the normalised surface Dice.

    A case in one folder only, an unreadable file, and two grids that differ become entries of `problems`.
    Raises InputError if a folder is missing or if the two have no case in common.
    """
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise InputError(f"tolerance_mm is {tolerance_mm!r}; it must be a number of mm, not below zero.")
    table = Table(tolerance_mm=tolerance_mm)
    if prediction.is_file() and reference.is_file():  # whatever each is called
        found = {path: {case_name(prediction): [path]} for path in (prediction, reference)}
    else:
        found = {folder: _files(folder) for folder in (prediction, reference)}
    sides = [found[prediction]] if predicted_only else list(found.values())
    wanted = sorted({name for files in sides for name in files})
    if not set(found[prediction]) & set(found[reference]):
        raise InputError(f"{prediction} and {reference}: no case is in both; files are paired by name without ending.")
    known, members = _described(reference)
    measured: dict[str, dict[int, Scores]] = {}
    if missing := [case for case in wanted if case not in found[prediction]]:
        names = ", ".join([*missing[:3], "..."][: len(missing)])
        text = f"{len(missing)} of the cases in {reference} have no prediction ({names}) and are not measured"
        listener(events.make("warning", text=f"{text}; --predicted-only leaves them out."))
        wanted = [case for case in wanted if case in found[prediction]]
    for done, case in enumerate(wanted):
        try:
            pair = (_only(found[prediction], case, prediction), _only(found[reference], case, reference))
            if not members:
                known.update(_segment_names(*pair))
            measured[case] = _measure(*pair, members, tolerance_mm)
        except InputError as problem:
            table.problems[case] = str(problem)
            listener(events.make("warning", text=f"{case}: not measured. {problem}"))
        listener(events.make("progress", fraction=(done + 1) / len(wanted), text=f"{done + 1} of {len(wanted)} cases"))
    table.problems |= {case: f"{prediction}: holds no mask of case {case}." for case in missing}
    values = sorted(set(known).union(*measured.values()))
    table.labels = {value: known.get(value, f"Label {value}") for value in values}
    table.rows = [
        Row(case, value, table.labels[value], scores.get(value, ABSENT))
        for case, scores in measured.items()
        for value in values
    ]
    return table


def _files(folder: Path) -> dict[str, list[Path]]:
    """Case name -> mask files in a folder, leaving out steps, uncertainty maps and hidden files."""
    if folder.is_file():
        raise InputError(f"{folder}: is a file; give two files, or the folders of both.")
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder.")
    files: dict[str, list[Path]] = {}
    for path in image_files(folder):
        if not BESIDE.search(case_name(path)):
            files.setdefault(case_name(path), []).append(path)
    if not files:
        raise InputError(f"{folder}: holds no mask (.seg.nrrd, .nii.gz, .nii, .nrrd, .mha, .mhd).")
    return files


def _only(files: Mapping[str, list[Path]], case: str, folder: Path) -> Path:
    paths = files.get(case, [])
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise InputError(f"{folder}: holds no mask of case {case}.")
    both = " and ".join(path.name for path in paths)
    raise InputError(f"{folder}: holds {both}, two masks of one case; remove all but one.")


def _measure(
    prediction: Path, reference: Path, members: Mapping[int, tuple[int, ...]], tolerance_mm: float
) -> dict[int, Scores]:
    """Scores by label, or by the value of a region: `members` says which values of the label maps belong to each."""
    predicted, affine = read_label(prediction)
    present, reference_affine = read_label(reference)
    if other := difference(predicted.shape, affine, present.shape, reference_affine):
        raise InputError(
            f"{prediction}: lies on another grid than {reference.name} ({other}); resample it to the reference first."
        )
    spacing = tuple(float(x) for x in np.linalg.norm(reference_affine[:3, :3], axis=0)[::-1])
    if not members:
        members = {int(v): (int(v),) for v in np.union1d(np.unique(predicted), np.unique(present)) if v != 0}
    return {
        value: score(np.isin(predicted, values), np.isin(present, values), True, spacing, tolerance_mm)
        for value, values in sorted(members.items())
    }


def _segment_names(prediction: Path, reference: Path) -> dict[int, str]:
    """Value -> name from the `.seg.nrrd` files of a case; the reference's name counts.

    Raises InputError if one value has two names: then the two files number their structures differently.
    """
    predicted, present = _names_in(prediction), _names_in(reference)
    for value in sorted(predicted.keys() & present.keys()):
        if predicted[value].casefold() != present[value].casefold():
            raise InputError(
                f"{prediction}: label {value} is {predicted[value]!r} here and {present[value]!r} in {reference.name}; "
                "give the structures the same numbers in both."
            )
    return {**predicted, **present}


def _names_in(path: Path) -> dict[int, str]:
    if not path.name.lower().endswith(".seg.nrrd"):
        return _names_beside(path)
    try:
        reader, _ = header_reader(path)
    except (RuntimeError, InputError):
        return {}  # read_label says what is wrong with the file
    fields = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    names = {}
    for key, value in fields.items():
        name = fields.get(key.replace("_LabelValue", "_Name"), "")
        if re.fullmatch(r"Segment\d+_LabelValue", key) and value.isdigit() and name:
            names[int(value)] = name
    return names


def _names_beside(path: Path) -> dict[int, str]:
    """Value -> name from the record that `predict` writes beside a mask; empty without one."""
    try:
        labels = read_json(path.with_name(f"{case_name(path)}.json")).get("labels")
        return {label.value: label.name for label in (Label.from_json(item, "") for item in labels or ())}
    except (InputError, OSError, TypeError, ValueError, AttributeError):
        return {}  # names are a convenience


def _described(folder: Path) -> tuple[dict[int, str], dict[int, tuple[int, ...]]]:
    """Value -> name from a `dataset.json` in the folder or above it (MSD or nnU-Net layout); empty without one.

    Where it asks for regions their names, and value -> the values of the label maps that belong to each.
    """
    path = next((p for p in (folder / "dataset.json", folder.parent / "dataset.json") if p.is_file()), None)
    names: dict[int, str] = {}
    # names are a convenience; a broken description, or a part of it, must not stop a measurement
    broken = contextlib.suppress(InputError, AttributeError, KeyError, TypeError, ValueError)
    data: dict[str, Any] = {}
    with broken:
        data = read_json(path) if path else {}
        if path and "regions_class_order" in data and (regions := regions_of(data, path.parent)):
            return {x.value: x.name for x in regions}, {x.value: x.values for x in regions}
    labels = data.get("labels")
    for pair in labels.items() if isinstance(labels, dict) else ():
        with broken:
            names |= {value: str(name) for value, name in names_by_value(dict([pair])).items() if value > 0}
    return names, {}
