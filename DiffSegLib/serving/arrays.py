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
    """Write an array, whole or not at all; its path as text. It is read at once and removed: the disk can wait."""
    with whole_file(path, durable=False) as aside, open(aside, "wb") as file:
        np.save(file, array, allow_pickle=False)
    return str(path)
