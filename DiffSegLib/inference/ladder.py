"""What to do when memory runs out: the same volume again, each time with less, the processor last."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")
TOGETHER = 4  # windows in one pass of a GPU, which one leaves idle in part; a processor is slower by several


@dataclass(frozen=True)
class Rung:
    """One way to run a volume: windows of `patch`; `growth`, `batch` and `state` as in sampling.Sampling."""

    name: str
    device: torch.device
    patch: tuple[int, ...]
    growth: float | None = None
    batch: int = 1
    state: int | None = None


def rungs(device: torch.device, patch: tuple[int, ...], factors: tuple[int, ...]) -> Iterator[Rung]:
    """The way to begin with, then those that need less and less; factors: total stride of the network per axis."""
    half = tuple(max(2 * f, n // 2 // f * f) for n, f in zip(patch, factors, strict=True))
    if device.type == "cuda":
        yield Rung(f"the usual windows, {TOGETHER} at once", device, patch, batch=TOGETHER)
    for place in dict.fromkeys((device, CPU)):
        on = "" if place == device else " on the processor"
        yield Rung(f"the usual windows{on}", place, patch)
        yield Rung(f"windows of the model's patch{on}, one after the other", place, patch, 1.0, state=0)
        if half != patch:
            yield Rung(f"windows of half the model's patch{on}", place, half, 1.0, state=0)
