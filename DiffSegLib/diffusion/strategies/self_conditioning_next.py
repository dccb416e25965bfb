"""Self-conditioning on the answer of the step before (Watson et al. 2023), as the sampler does it."""

import torch
from torch import Tensor

from DiffSegLib.diffusion.gaussian import column, q_posterior_mean, x_to_mask
from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.strategies.contract import Answer, Draws, Predict, first_guess


def self_conditioning_next(predict: Predict, x_start: Tensor, process: Process, index: Tensor, draws: Draws) -> Answer:
    """A first answer at t + 1; its reverse step gives x_t, and the second pass sees x_t and that answer.

    The reference goes on to show x_{t+1} at time t (`self_conditioning_input` = `reference`). At T nothing comes
    before: the second mask is empty, as in the sampler's first step.
    """
    last = len(process) - 1
    before = (index + 1).clamp_max(last)
    guess, x_before = first_guess(predict, x_start, process, before, draws, empty=True)
    at_last = column(index == last, guess)
    x_t = x_before
    if process.config.self_conditioning_input == "x_t":
        x_t = torch.where(at_last, x_before, q_posterior_mean(process.schedule, guess, x_before, before))
    kept = column(draws.uniform() < process.config.self_conditioning_probability, guess) & ~at_last
    return Answer(predict(torch.cat([x_to_mask(x_t), x_to_mask(guess) * kept], dim=1), index), x_t)
