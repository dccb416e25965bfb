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


def filled(array: np.ndarray) -> tuple[int, int]:
    """From where to where (end exclusive) along the first axis an array is not 0; (0, 0) where it is nowhere."""
    first = next((n for n, part in enumerate(array) if part.any()), len(array))
    end = next((n for n in range(len(array), first, -1) if array[n - 1].any()), 0)
    return (first, end) if end else (0, 0)


def save_array(path: Path, array: np.ndarray) -> str:
    """Write an array, whole or not at all; its path as text. It is read at once and removed: the disk can wait.

    What is not `filled` is left out: most file systems make it a hole, which takes no time to write and to remove.
    """
    array = np.ascontiguousarray(array)
    first, end = filled(array)
    with whole_file(path, durable=False) as aside, open(aside, "wb") as file:
        np.lib.format.write_array_header_2_0(file, np.lib.format.header_data_from_array_1_0(array))
        start = file.tell()
        file.seek(start + first * array[:1].nbytes)
        file.write(array[first:end].data)
        if end < len(array):
            file.seek(start + array.nbytes - 1)
            file.write(b"\0")
    return str(path)
