"""Arrays that travel between the worker and its parent: `.npy` files, whole or not there."""

from pathlib import Path

import numpy as np

from DiffSegLib.errors import InputError
from DiffSegLib.whole_files import whole_file


def load_array(path: str) -> np.ndarray:
    """Read an array; nothing in the file is executed."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise InputError(f"{path}: cannot be read as an array ({problem}).") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: is an archive; an array (.npy) is needed.")
    return array


def save_array(path: Path, array: np.ndarray) -> str:
    """Write an array, whole or not at all; its path as text. It is read at once and removed: the disk can wait.

    Slices of zeros before the first and behind the last other one become a hole in the file, which takes no room on the
    disk and no time to write and to remove: of a region in a head that is most.
    """
    array = np.ascontiguousarray(array)
    filled = np.flatnonzero([part.any() for part in array])
    part = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 0)
    with whole_file(path, durable=False) as aside, open(aside, "wb") as file:
        np.lib.format.write_array_header_2_0(file, np.lib.format.header_data_from_array_1_0(array))
        start = file.tell()
        file.truncate(start + array.nbytes)
        file.seek(start + part.start * array[:1].nbytes)
        file.write(array[part].data)
    return str(path)
