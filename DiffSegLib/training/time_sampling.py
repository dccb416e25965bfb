"""Which noise levels a batch trains: evenly, or more often where the loss is high (Nichol & Dhariwal 2021, eq. 18)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.config_idle import FROM_ABOVE

WARM_UP = 10  # losses of every level before they decide; this and the two below are the reference's
DECAY = 0.9
UNIFORM_SHARE = 0.01


class TimeSampler:
    """Draws indices with weights 1 / (p N), so that the mean of weight times loss is that of even draws.

    counts, squares: (levels,) how often a level was seen, and the running mean of its squared loss, unweighted.
    """

    def __init__(self, config: DiffusionConfig, levels: int) -> None:
        self.config = config
        # a supervised network has no noise levels to tell apart
        self.even = config.time_sampling == "uniform" or config.strategy == "supervised"
        self.allowed = levels - 1 if config.strategy in FROM_ABOVE and not config.recycling_last else levels
        self.counts, self.squares = np.zeros(levels), np.zeros(levels)

    @property
    def state(self) -> dict[str, Any]:
        """JSON-ready; empty for even draws, which remember nothing."""
        if self.even:
            return {}
        return {"counts": self.counts.tolist(), "squares": self.squares.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        if state:
            self.counts, self.squares = np.array(state["counts"]), np.array(state["squares"])

    def warming_up(self) -> bool:
        """Whether a level has been seen too rarely to be judged."""
        return bool(self.counts[: self.allowed].min() < WARM_UP)

    def probabilities(self) -> np.ndarray:
        """(levels,) chance of each level; those that are not allowed count too until a draw leaves them out."""
        if self.warming_up():
            lacking = np.maximum(WARM_UP - self.counts, 0.0)
            return lacking / lacking.sum()
        root = np.sqrt(self.squares)
        share = root / root.sum() if root.sum() > 0 else np.full(len(root), 1.0 / len(root))
        return (1.0 - UNIFORM_SHARE) * share + UNIFORM_SHARE / len(share)

    def draw(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (B,) int64 and the weights (B,) float32 of their losses, from a number of [0, 1) for each.

        While warming up each weight is 1. `importance_weight` = `reference` multiplies by p N instead, which favours
        hard levels twice.
        """
        if self.even:
            return (numbers.double() * self.allowed).long(), torch.ones(len(numbers))
        p = self.probabilities()
        drawn = p[: self.allowed] / p[: self.allowed].sum()
        edges = torch.from_numpy(np.cumsum(drawn)[:-1])  # the last level takes what rounding leaves
        index = torch.bucketize(numbers.double(), edges, right=True)
        if self.warming_up():
            return index, torch.ones(len(numbers))
        if self.config.importance_weight == "reference":
            return index, torch.from_numpy(p * len(p))[index].float()
        return index, torch.from_numpy(1.0 / (drawn * self.allowed))[index].float()

    def update(self, index: Tensor, losses: Tensor) -> None:
        """Remember losses (B,), of all processes where there are several; one that is not finite is left out."""
        if self.even:
            return
        for k, loss in zip(index.tolist(), losses.double().tolist(), strict=True):
            if np.isfinite(loss):
                self.counts[k] += 1
                self.squares[k] = DECAY * self.squares[k] + (1.0 - DECAY) * loss**2
