"""A folder of image and label pairs without any description file; PNG images make a 2D data set.

`images/x.*` + `labels/x.*` (or `image/` + `label/`, `imagesTr/` + `labelsTr/`), `x_image.*` + `x_label.*` side by
side, or a subfolder per case with `image.*` and `label.*`. Several channels are files `x_0000.*`, `x_0001.*`, from
0000 on (`image_0000.*` in a subfolder).
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from DiffSegLib.data.cases import CHANNEL, Case, Dataset, image_files, whole_cases
from DiffSegLib.data.files import case_name, channel_count, read_label
from DiffSegLib.data.paths import listed
from DiffSegLib.errors import InputError
from DiffSegLib.labels import labels_from_names, name_of_each, names_by_value
from DiffSegLib.schema import read_json


def read(folder: Path) -> Dataset | None:
    """The data set, or None where the folder holds no pairs.

    Label names come from `labels.json` ({"1": "liver"} or {"liver": 1}) or `labels.csv` (value,name), else each value
    that occurs is called `label N`. Raises InputError that lists every image without label and label without image, and
    for two files of one name, of which only one would be seen.
    """
    images, labels = _two_folders(folder) or _side_by_side(folder) or _subfolders(folder) or ({}, {})
    if not images or not labels:
        return None
    gaps = {name: n for name, files in images.items() if (n := _gap(files)) is not None}
    cases = tuple(Case(n, images[n], labels[n]) for n in sorted(images) if n in labels and n not in gaps)
    lonely = [(name, f"label for image {name}") for name in sorted(set(images) - set(labels))]
    lonely += [(name, f"channel {n:04d} (they count from 0000) of image {name}") for name, n in sorted(gaps.items())]
    lonely += [(name, f"image for label {name}") for name in sorted(set(labels) - set(images))]
    cases, missing = whole_cases(folder, cases, lonely)
    # as most cases have it: an odd one must not speak for the others
    counts = Counter(len(c.images) if len(c.images) > 1 else _channels(c.images[0]) for c in cases)
    count = counts.most_common(1)[0][0]
    names = _label_names(folder) or {value: f"label {value}" for value in _label_values(cases)}
    if not set(names) - {0}:
        raise InputError(f"{folder}: no label file holds a value above 0, so there is nothing to learn.")
    channels = tuple(f"channel {n + 1}" for n in range(count)) if count > 1 else ("image",)
    described = labels_from_names(names, str(folder))
    return Dataset(folder, folder.resolve().name, cases, described, channels, missing=missing)


def _channels(path: Path) -> int:
    """Of an image file; 1 where it cannot be read, which is told when all cases are looked through."""
    try:
        return channel_count(path)
    except InputError:
        return 1


Pairs = tuple[dict[str, tuple[Path, ...]], dict[str, Path]]


def grouped(files: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    """Case name -> its files: `x_0000.*`, `x_0001.*`, ... are the channels of case x.

    Raises InputError for two files of one name, and for `x.*` beside them.
    """
    groups: dict[str, list[Path]] = {}
    by_names = by_name(sorted(files))
    for name, path in by_names.items():
        groups.setdefault(stem := CHANNEL.sub("", name), []).append(path)
        if stem != name and stem in by_names:
            _refuse(path, by_names[stem])
    return {name: tuple(group) for name, group in groups.items()}


def by_name(files: Iterable[Path]) -> dict[str, Path]:
    """Name without ending -> file. Raises InputError for two of one name: `x.nii.gz` and `x.seg.nrrd`, say."""
    found: dict[str, Path] = {}
    for path in files:
        if (other := found.setdefault(case_name(path), path)) != path:
            _refuse(path, other)
    return found


def _refuse(path: Path, other: Path) -> NoReturn:
    raise InputError(f"{path}: {other.name} beside it is of the same case; remove one of them.")


def _gap(files: Sequence[Path]) -> int | None:
    """The first channel of which there is no file, where there are several."""
    numbers = [CHANNEL.search(case_name(path)) for path in files]
    missing = (n for n, found in enumerate(numbers) if found is None or int(found[0][1:]) != n)
    return next(missing, None) if len(files) > 1 else None


def _two_folders(folder: Path) -> Pairs | None:
    for one, two in (("images", "labels"), ("image", "label"), ("imagesTr", "labelsTr")):
        images, labels = image_files(folder / one), image_files(folder / two)
        if images and labels:
            names = by_name(labels)
            plain: dict[str, tuple[Path, ...]] = {name: (path,) for name, path in by_name(images).items()}
            # slices are often called x_0001: only names that have no label of their own are channels
            of_channels = any(name not in names and CHANNEL.sub("", name) in names for name in plain)
            return (grouped(images) if of_channels else plain), names
    return None


def _side_by_side(folder: Path) -> Pairs | None:
    files = image_files(folder)
    groups = grouped(p for p in files if CHANNEL.sub("", case_name(p)).endswith("_image"))
    images = {name.removesuffix("_image"): group for name, group in groups.items()}
    masks = by_name(p for p in files if case_name(p).endswith("_label"))
    labels = {name.removesuffix("_label"): path for name, path in masks.items()}
    return (images, labels) if images or labels else None


def _subfolders(folder: Path) -> Pairs | None:
    images, labels = {}, {}
    for sub in (p for p in listed(folder) if p.is_dir() and not p.name.startswith(".")):
        groups = grouped(p for p in image_files(sub) if CHANNEL.sub("", case_name(p)) in ("image", "label"))
        if "image" in groups:
            images[sub.name] = groups["image"]
        if "label" in groups:
            labels[sub.name], *others = groups["label"]
            for other in others:
                _refuse(other, labels[sub.name])
    return (images, labels) if images or labels else None


def _label_names(folder: Path) -> dict[int, str]:
    """Value -> name from `labels.json` or `labels.csv`; empty without such a file."""
    path = next((p for p in (folder / "labels.json", folder / "labels.csv") if p.is_file()), None)
    if path is None:
        return {}
    try:
        if path.suffix == ".json":
            names = {value: str(name) for value, name in names_by_value(read_json(path)).items()}
        else:
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows = [row for row in csv.reader(file) if row and row[0].strip()]
            rows = rows if rows and rows[0][0].strip().isdecimal() else rows[1:]
            names = name_of_each((row[0], row[1].strip()) for row in rows)
    except (OSError, ValueError, TypeError, IndexError) as problem:
        raise InputError(f"{path}: is no table of label values and names ({problem}).") from None
    if not names or not all(0 <= value <= 255 for value in names):
        raise InputError(f"{path}: needs a name for at least one label value from 1 to 255.")
    return names


def _label_values(cases: Iterable[Case]) -> list[int]:
    """The values that occur in the label maps; one that cannot be read is left to the checks before training.

    Raises InputError where none can be read.
    """
    found: set[int] = set()
    problem: InputError | None = None
    for case in cases:
        try:
            found |= set(np.unique(read_label(case.label)[0]).tolist())
        except InputError as caught:
            problem = caught
    if problem and not found:
        raise problem
    return sorted(found)
