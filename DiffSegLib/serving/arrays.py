"""Arrays that travel between the worker and its parent: `.npy` files, whole or not there."""

import os
from pathlib import Path

import numpy as np

from DiffSegLib.errors import InputError


def load_array(path: str) -> np.ndarray:
    """Read an array; nothing in the file is executed."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise InputError(f"{path}: cannot be read as an array ({problem}).") from None
    return array


def save_array(path: Path, array: np.ndarray) -> str:
    """Write an array aside and rename it, so that who is told of the path finds it whole."""
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(aside, path)
    except OSError as problem:
        raise InputError(f"{path}: cannot be written ({problem.strerror or problem}).") from None
    return str(path)
