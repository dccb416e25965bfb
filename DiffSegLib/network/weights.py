"""Writing tensors to disk so that a file under its final name is always whole."""

import os
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from DiffSegLib.errors import InputError


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write aside, flush to disk, rename: a file under its final name is always whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        save_file(contiguous, aside, metadata)
        with open(aside, "r+b") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())  # safetensors makes files that only their owner may read
        os.replace(aside, path)
    except OSError as problem:
        raise InputError(f"{path}: cannot be written ({problem.strerror or problem}).") from None
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
