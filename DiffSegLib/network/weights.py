"""Writing tensors to disk so that a file under its final name is always whole, and known again."""

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from DiffSegLib.errors import InputError
from DiffSegLib.whole_files import whole_file


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, whole or not there. Raises InputError where it cannot be written, as on a full disk."""
    contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with whole_file(path) as aside:
        try:
            save_file(contiguous, aside, metadata)
        except SafetensorError as problem:
            raise InputError(f"{path}: cannot be written ({problem}).") from None
        os.chmod(aside, 0o666 & ~_umask())  # safetensors makes files that only their owner may read


def digest(tensors: dict[str, Tensor], text: str = "") -> str:
    """SHA-256 over a text, and names and bytes of tensors."""
    total = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        total.update(key.encode())
        total.update(tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
