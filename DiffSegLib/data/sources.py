"""Of which image files a mask was made, so that another image of the same name is not taken for done."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from DiffSegLib.data.headers import voxels_of
from DiffSegLib.errors import InputError
from DiffSegLib.whole_files import checksum


def sources_of(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Name, size, time of the last change and SHA-256 of each file; of a DICOM series of its first slice.

    Of what is none, or cannot be read, nothing: a pipe would block, and who reads it will tell.
    """
    with contextlib.suppress(OSError):
        return [{**_seen(path), "sha256": checksum(path)} for path in _files(filter(Path.is_file, paths))]
    return []


def is_other(recorded: object, paths: Sequence[Path]) -> bool:
    """Whether files are not those that were recorded. Where size and time are the same they are not read.

    False, too, for a record that does not say, and for files that cannot be read: who does read them will tell.
    """
    if not isinstance(recorded, list) or not paths or not all(map(Path.is_file, paths)):
        return False
    try:
        files = _files(paths)
        return len(files) != len(recorded) or not all(map(_is_same, recorded, files))
    except OSError:
        return False


def of_same(recorded: object, images: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a record is of these images; one that does not say is of none, but where there are none either."""
    if not isinstance(recorded, list):
        return not images
    sums = [each.get("sha256") if isinstance(each, Mapping) else None for each in recorded]
    return sums == [each["sha256"] for each in images]


def _is_same(known: object, path: Path) -> bool:
    if not isinstance(known, Mapping):
        return False
    seen = _seen(path)
    alike = all(known.get(key) == seen[key] for key in ("bytes", "changed_ns"))
    return alike or known.get("sha256") == checksum(path)


def _seen(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"file": path.name, "bytes": stat.st_size, "changed_ns": stat.st_mtime_ns}


def _files(paths: Iterable[Path]) -> list[Path]:
    """With what lies in a file of its own beside a header."""
    found: list[Path] = []
    for path in paths:
        try:
            found += dict.fromkeys((path, voxels_of(path).file))
        except InputError:
            found.append(path)
    return found
