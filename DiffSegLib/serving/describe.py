"""The task `describe`: what this interpreter has to run the engine with, for the window and for a bug report."""

import importlib.metadata
import platform
from collections.abc import Callable

import torch

from DiffSegLib.events import Listener
from DiffSegLib.network.precision import pick_device, pick_precision
from DiffSegLib.serving.session import Fields, Session

PACKAGES = ("torch", "monai", "numpy", "scipy", "SimpleITK", "safetensors")


def run(session: Session, request: Fields, send: Listener, cancelled: Callable[[], bool]) -> Fields:
    """versions: package -> version or None. memory_gib: (free, total) of the CUDA device, or None."""
    device = pick_device("auto")
    cuda = device.type == "cuda"
    return {
        "python_version": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cuda": torch.cuda.get_device_name(0) if cuda else None,
        "memory_gib": [round(n / (1 << 30), 1) for n in torch.cuda.mem_get_info()] if cuda else None,
        "threads": torch.get_num_threads(),
        "precision": str(pick_precision("auto", device)).removeprefix("torch."),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
