"""Checkpoints: everything that a training needs to go on exactly, in safetensors files that prove to be whole.

`last.safetensors` and `previous.safetensors` hold the whole state, `best.safetensors` the averaged weights of the best
validation. Each carries a checksum; a file is read back before it takes the place of another.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from DiffSegLib.errors import InputError
from DiffSegLib.network.weights import digest, write_safetensors
from DiffSegLib.training.time_sampling import TimeSampler

KEPT = ("data", "augment", "network", "diffusion", "loss")  # sections of a configuration
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"


class Damaged(InputError):
    """A checkpoint that is not what was written."""


@dataclass
class Progress:
    """What a training must know besides tensors. samples: how many were taken, which is where the next batch begins.

    validated_iteration, validated_seconds: when the last validation was. stale: validations since the best one.
    skipped: steps in a row without a finite loss.
    """

    iteration: int = 0
    samples: int = 0
    seconds: float = 0.0
    validated_iteration: int = 0
    validated_seconds: float = 0.0
    best_dice: float = -1.0
    best_iteration: int = 0
    stale: int = 0
    skipped: int = 0

    def judge(self, dice: float, seconds: float) -> bool:
        """Note a validation; True for the best so far."""
        self.validated_iteration, self.validated_seconds = self.iteration, seconds
        self.stale += 1
        if dice > self.best_dice:
            self.best_dice, self.best_iteration, self.stale = dice, self.iteration, 0
        return self.stale == 0


@dataclass(eq=False)
class State:
    """Everything that changes while a training runs; `ema` begins as the network's weights.

    config: as JSON; of its sections KEPT must not change, or the model would not be what its card says.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    times: TimeSampler
    progress: Progress = field(default_factory=Progress)
    config: dict[str, Any] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.ema = {key: value.detach().clone() for key, value in self.network.state_dict().items()}


def save(folder: Path, state: State) -> None:
    """Write the state as the last checkpoint; the last one so far becomes the previous."""
    tensors = {f"network.{key}": value for key, value in state.network.state_dict().items()}
    tensors |= {f"ema.{key}": value for key, value in state.ema.items()}
    for number, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in values.items()}
    more = {"progress": vars(state.progress), "times": state.times.state, "scaler": state.scaler.state_dict()}
    fresh = folder / f"new.{LAST}"
    write(fresh, tensors, more | {"config": state.config})
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(fresh, folder / LAST)


def save_best(folder: Path, state: State) -> None:
    """Write the averaged weights."""
    write(folder / BEST, {f"ema.{key}": value for key, value in state.ema.items()}, {"progress": vars(state.progress)})


def resume(folder: Path, state: State) -> str:
    """Go on from the last checkpoint, or the one before where that is damaged; returns a sentence about it, or "".

    A folder without checkpoints leaves the state as it is. Raises InputError where none can be read, and for one of
    another configuration.
    """
    for left in folder.glob(".*.part"):  # of a process that was killed while it wrote
        left.unlink(missing_ok=True)
    problems: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            tensors, more = read(path)
        except Damaged as problem:
            problems.append(str(problem))
            continue
        _restore(path, state, tensors, more)
        return f"{problems[0]} Going on from the one before, iteration {state.progress.iteration}." if problems else ""
    if problems:
        raise InputError(f"{' '.join(problems)} No checkpoint is left to go on from; start in another folder.")
    return ""


def load_best(folder: Path, state: State) -> str:
    """Put the best weights into `state.ema`; where they are damaged it stays, and a sentence says so."""
    try:
        tensors, more = read(folder / BEST)
        _replace(state.ema, _part(tensors, "ema."), folder / BEST)
    except Damaged as problem:
        return f"{problem} The model has the last weights instead."
    for key in ("best_dice", "best_iteration"):  # that belong to these weights
        setattr(state.progress, key, more["progress"][key])
    return ""


def write(path: Path, tensors: dict[str, Tensor], more: dict[str, Any]) -> None:
    """Write tensors and JSON-ready values with their checksum, and read them back.

    Raises InputError where the disk does not take it.
    """
    text = json.dumps(more)
    write_safetensors(path, tensors, {"state": text, "sha256": digest(tensors, text)})
    read(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and values of a checkpoint. Raises Damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        if header.get("sha256") != digest(tensors, header["state"]):
            raise ValueError("its checksum is wrong")
        return tensors, json.loads(header["state"])
    except (SafetensorError, OSError, KeyError, ValueError) as problem:
        raise Damaged(f"{path}: is damaged ({str(problem).splitlines()[0]}).") from None


def _restore(path: Path, state: State, tensors: dict[str, Tensor], more: dict[str, Any]) -> None:
    try:
        for section in KEPT if state.config else ():  # somebody may have edited the file since
            for key, value in more.get("config", {}).get(section, {}).items():
                if (now := state.config[section].get(key, value)) != value:
                    raise ValueError(f"{section}.{key} was {value}, not {now}")
        progress = Progress(**more["progress"])
        state.network.load_state_dict(_part(tensors, "network."))
        _replace(state.ema, _part(tensors, "ema."), path)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer.").items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = value
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        state.times.restore(more["times"])
        state.scaler.load_state_dict(more["scaler"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
        text = f"is no checkpoint of this configuration ({str(problem).splitlines()[0]})"
        raise InputError(f"{path}: {text}; put config.json back as it was, or start in another folder.") from None
    vars(state.progress).update(vars(progress))


def _replace(old: dict[str, Tensor], new: dict[str, Tensor], path: Path) -> None:
    """Copy values; raises Damaged for others than were there, of which some would be spread over larger ones."""
    if {key: value.shape for key, value in old.items()} != {key: value.shape for key, value in new.items()}:
        raise Damaged(f"{path}: is no checkpoint of this configuration (its averaged weights are of another network).")
    for key, value in new.items():
        old[key].copy_(value)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
