"""What a labelled data set is, whatever layout its folder has: cases, labels and channels."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DiffSegLib.data.files import is_image_file
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label, Region

CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's ending of a case's name: CASE_0000 is channel 0


@dataclass(frozen=True)
class Case:
    """One labelled case: image files (one per channel, or one file with all channels) and the label map."""

    name: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class Dataset:
    """A data set: its cases, labels (background left out), modality per channel, and where it comes from.

    regions: empty, or the overlapping classes that are to be predicted instead of the labels.
    """

    folder: Path
    name: str
    cases: tuple[Case, ...]
    labels: tuple[Label, ...]
    channels: tuple[str, ...]
    licence: str = ""
    reference: str = ""
    regions: tuple[Region, ...] = ()

    @property
    def num_classes(self) -> int:
        """Background, and one class per region or else per label."""
        return len(self.regions or self.labels) + 1


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises InputError naming the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: is no readable JSON file ({problem}).") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must hold one JSON object.")
    return data


def image_files(folder: Path) -> list[Path]:
    """The images and label maps in a folder, in the order of names; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and is_image_file(p) and not p.name.startswith("."))


def check_files(folder: Path, cases: tuple[Case, ...], problems: list[str]) -> None:
    """Raise one InputError for missing files, duplicate names and the problems that the layout found already."""
    names = [case.name for case in cases]
    problems = [
        *(f"image {path.name} of case {c.name}" for c in cases for path in c.images if not path.is_file()),
        *(f"label {c.label.name} of case {c.name}" for c in cases if not c.label.is_file()),
        *problems,
    ]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise InputError(f"{folder}: missing: {shown}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{folder}: several cases are called {', '.join(twice[:10])}.")
    if not cases:
        raise InputError(f"{folder}: names no training cases.")
