"""What to do when memory runs out: the same volume again, each time with less, the processor last."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Rung:
    """One way to run a volume: windows of `patch`; `growth` and `state` as in sampling.Sampling."""

    name: str
    device: torch.device
    patch: tuple[int, ...]
    growth: float | None = None
    state: int | None = None


def rungs(device: torch.device, patch: tuple[int, ...], factors: tuple[int, ...]) -> Iterator[Rung]:
    """The way to begin with, then those that need less and less; factors: total stride of the network per axis."""
    half = tuple(max(2 * f, n // 2 // f * f) for n, f in zip(patch, factors, strict=True))
    for place in dict.fromkeys((device, CPU)):
        on = "" if place == device else " on the processor"
        yield Rung(f"the usual windows{on}", place, patch)
        yield Rung(f"windows of the model's patch{on}, one after the other", place, patch, 1.0, 0)
        if half != patch:
            yield Rung(f"windows of half the model's patch{on}", place, half, 1.0, 0)
