"""Checkpoints: everything that a training needs to go on exactly, in one safetensors file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from DiffSegLib.errors import InputError
from DiffSegLib.network.weights import write_safetensors


def save(
    path: Path, network: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Write weights, their moving average, the optimiser's state and `progress` (JSON-ready)."""
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"ema.{key}": value for key, value in ema.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items()}
    write_safetensors(path, tensors, {"progress": json.dumps(progress)})


def load(path: Path, network: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill network, ema and optimiser in place and return the progress. Raises InputError for a foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            progress: dict[str, Any] = json.loads((file.metadata() or {})["progress"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        network.load_state_dict(_part(tensors, "network."))
        for key, value in _part(tensors, "ema.").items():
            ema[key].copy_(value)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer.").items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as problem:
        raise InputError(f"{path}: is no checkpoint of this configuration ({str(problem).splitlines()[0]}).") from None
    return progress


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
