"""Files that are whole or not there: written aside, flushed to disk, then renamed."""

import contextlib
import glob
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from DiffSegLib.errors import InputError

OURS = "diffseg"  # in the name of a file while it is written
STALE = 600  # seconds without another byte after which nobody writes a file any more


@contextlib.contextmanager
def whole_file(path: Path, ending: str = "", durable: bool = True) -> Iterator[Path]:
    """The path to write to in place of `path`, which it becomes when the block ends well; else nothing is left.

    The folder is made, and what a killed process left of the same file is removed. ending: what the name must end with
    for the writer to know the format. durable: wait for the disk, so that the file survives a power cut. Raises
    InputError that names `path` where it cannot be written.

        with whole_file(Path("a.json")) as aside:
            aside.write_text("{}")
    """
    # a name that nobody knows before, so that nobody can put a link there in a folder that several may write
    aside = path.with_name(f".{path.name}.{OURS}-{secrets.token_hex(4)}.part{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(path.parent, time.time(), f".{glob.escape(path.name)}.{OURS}-*.part*")
        yield aside
        if durable:
            with open(aside, "r+b") as file:  # Windows flushes only what is open for writing
                os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as problem:
        raise InputError(f"{path}: cannot be written ({problem.strerror or problem}).") from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def _remove_left(folder: Path, now: float, pattern: str = f".*.{OURS}-*.part*") -> None:
    """Remove what killed processes left while they wrote; another may do so at the same moment, or hold it."""
    with contextlib.suppress(OSError):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if now - left.lstat().st_mtime > STALE:
                    left.unlink()


def check_folder(folder: Path) -> None:
    """Raise InputError, before any work, for a folder that cannot be made, or in which nothing can be written.

    What killed processes left in it while they wrote is removed.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        what = "a link that leads to no folder" if there.is_symlink() else "a file"
        raise InputError(f"{there}: is {what}; name a folder.")
    if not os.access(there, os.W_OK):
        raise InputError(f"{folder}: cannot be written ({there} is read-only for you).")
    try:
        with tempfile.TemporaryDirectory(prefix=".diffseg-", dir=there) as made:
            now = os.stat(made).st_mtime  # not every folder that may be written can be: a full disk, a network's
        _remove_left(folder, now)  # by the clock of the folder's own machine
    except OSError as problem:
        raise InputError(f"{folder}: cannot be written ({problem.strerror or problem}).") from None


def write_text(path: Path, text: str) -> None:
    """A whole text file, UTF-8, lines ending as on Unix."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
