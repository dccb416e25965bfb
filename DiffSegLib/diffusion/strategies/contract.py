"""What every training strategy takes and returns."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from DiffSegLib.diffusion.gaussian import q_sample, x_to_mask
from DiffSegLib.diffusion.process import Process


class Predict(Protocol):
    """Runs the network on the batch's images, or on some `rows` of them: (mask, index) -> the network's output."""

    def __call__(self, mask: Tensor | None, index: Tensor, rows: Tensor | None = None) -> Tensor:
        """The mask is (n, C or 2 C, *spatial) or None, index (n,), rows (n,) int64 -> (n, C or 2 C, *spatial)."""


class Draws(Protocol):
    """The step's random numbers, in the order in which a strategy asks for them."""

    def normal(self) -> Tensor:
        """Standard normal, of x_start's shape."""

    def uniform(self) -> Tensor:
        """Evenly from [0, 1), (B,)."""


class Answer(NamedTuple):
    """The output that the losses judge, and the x_t that the network was shown for it."""

    output: Tensor
    x_t: Tensor


# (predict, x_start (B, C, *spatial) the truth in x-space, process, index (B,) int64, draws) -> Answer
Strategy = Callable[[Predict, Tensor, Process, Tensor, Draws], Answer]


def first_guess(
    predict: Predict, x_start: Tensor, process: Process, index: Tensor, draws: Draws, empty: bool = False
) -> tuple[Tensor, Tensor]:
    """The network's own answer to the truth noised to `index`, without gradient, and that x_t.

    empty: append an empty second mask, for networks with self-conditioning.
    """
    x_t = q_sample(process.schedule, x_start, index, draws.normal())
    shown = x_to_mask(x_t)
    with torch.no_grad():
        output = predict(torch.cat([shown, torch.zeros_like(shown)], dim=1) if empty else shown, index)
        return process.guess(output, x_t, index), x_t
