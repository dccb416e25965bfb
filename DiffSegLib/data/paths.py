"""What lies at a path: its name for ITK and in records, why nothing can be read there, what a folder holds."""

import os
from pathlib import Path

from DiffSegLib.errors import InputError


def itk_name(path: Path | str) -> str:
    """A path for SimpleITK, which ends the whole process at a name that is no UTF-8: then InputError is raised."""
    try:
        return os.fsencode(path).decode("utf-8")  # whatever Python takes names for, in a locale without UTF-8
    except UnicodeError:
        raise InputError(f"{path}: its name is no UTF-8 (of an old archive or disk?); rename it.") from None


def recorded(name: str) -> str:
    """A file's name as it is written down, the same in every locale: Python takes it for another one without UTF-8."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def from_record(name: str) -> str:
    """A name that was written down, as this process has it. Raises ValueError for what no file can be called."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def no_file(path: Path) -> str:
    """Why there is nothing to read at a path, after its name; empty where there is."""
    if path.is_file():
        return "" if os.access(path, os.R_OK) else "may not be read by you."
    if path.is_symlink():  # of data that git-annex or datalad manages, and has not fetched
        return "is a link to a file that is not here; fetch it, or remove the link."
    return "is no plain file." if path.exists() else "there is no such file."


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, in the order of names. Raises InputError for one that may not be looked into."""
    try:
        return sorted(folder.iterdir())
    except OSError as problem:
        raise InputError(f"{folder}: cannot be read ({problem.strerror or problem}).") from None
