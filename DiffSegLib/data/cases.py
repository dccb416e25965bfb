"""What a labelled data set is, whatever layout its folder has: cases, labels and channels."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from DiffSegLib.data.files import is_image_file
from DiffSegLib.data.paths import listed
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label, Region

NAMED = 5  # files that are missing: a copied description without its images lacks hundreds
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

    regions: empty, or the overlapping classes that are to be predicted instead of the labels. missing: files that were
    named or belong to a pair and are not there, each after its case's name; these cases are left out.
    """

    folder: Path
    name: str
    cases: tuple[Case, ...]
    labels: tuple[Label, ...]
    channels: tuple[str, ...]
    licence: str = ""
    reference: str = ""
    regions: tuple[Region, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def num_classes(self) -> int:
        """Background, and one class per region or else per label."""
        return len(self.regions or self.labels) + 1


def inside(folder: Path, name: object, where: Path) -> Path:
    """The path of a file that a description names, relative to its folder. Raises InputError for any other place."""
    # by their names, not by what links point to: images may be linked; absolute, for every path is relative to "."
    path = Path(os.path.abspath(folder / str(name)))
    if not isinstance(name, str) or not path.is_relative_to(os.path.abspath(folder)):
        raise InputError(f"{where}: names {name!r}, which does not lie in its folder.")
    return folder / name


def image_files(folder: Path) -> list[Path]:
    """The images and label maps in a folder, in the order of names; none where there is no such folder.

    By their names: a link to nowhere, a pipe or a folder by such a name is told when it is read.
    """
    if not folder.is_dir():
        return []
    return [p for p in listed(folder) if is_image_file(p) and not p.name.startswith(".")]


def whole_cases(
    folder: Path, cases: Sequence[Case], lonely: Sequence[tuple[str, str]] = ()
) -> tuple[tuple[Case, ...], tuple[tuple[str, str], ...]]:
    """The cases whose files are all there, and what is missing, with what the layout found `lonely` already.

    Raises InputError for two cases of one name and for a folder without any whole case.
    """
    wanted = [(case.name, "image", path) for case in cases for path in case.images]
    wanted += [(case.name, "label", case.label) for case in cases]
    missing = [
        *((n, f"{what} {os.path.relpath(p, folder)} of case {n}") for n, what, p in wanted if not p.is_file()),
        *lonely,
    ]
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{folder}: several cases are called {', '.join(twice[:10])}.")
    kept = tuple(case for case in cases if all(path.is_file() for path in (*case.images, case.label)))
    if not kept:
        text = f"{missing_sentence(folder, missing)[:-1]}; copy them there, or name the folder that has them."
        raise InputError(text if missing else f"{folder}: names no training cases.")
    return kept, tuple(missing)


def missing_sentence(folder: Path, missing: Sequence[tuple[str, str]]) -> str:
    """One sentence on all files that are missing, the first of them by name."""
    texts, more = [text for _, text in missing[:NAMED]], len(missing) - NAMED
    texts += [f"and {more} more"] if more > 0 else []
    return f"{folder}: {len(missing)} {'file is' if len(missing) == 1 else 'files are'} missing: {'; '.join(texts)}."
