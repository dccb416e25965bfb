"""Self-conditioning (Chen et al. 2022, "Analog Bits", section 2.3): the last answer is a second input."""

import torch
from torch import Tensor

from DiffSegLib.diffusion.gaussian import column, x_to_mask
from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.strategies.contract import Answer, Draws, Predict, first_guess


def self_conditioning(predict: Predict, x_start: Tensor, process: Process, index: Tensor, draws: Draws) -> Answer:
    """A first answer at t with an empty second mask; then a second pass that sees it, or by chance sees nothing."""
    guess, x_t = first_guess(predict, x_start, process, index, draws, empty=True)
    seen = x_to_mask(guess) * column(draws.uniform() < process.config.self_conditioning_probability, guess)
    return Answer(predict(torch.cat([x_to_mask(x_t), seen], dim=1), index), x_t)
