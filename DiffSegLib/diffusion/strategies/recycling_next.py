"""x_t-recycling (Fu et al. 2023, arXiv 2303.06040): the earlier prediction comes from the step just before."""

import torch
from torch import Tensor

from DiffSegLib.diffusion.gaussian import column, q_posterior_mean, q_sample, x_to_mask
from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.strategies.contract import Answer, Draws, Predict, first_guess


def recycling_next(predict: Predict, x_start: Tensor, process: Process, index: Tensor, draws: Draws) -> Answer:
    """The network's own answer from x_{t+1}, the truth noised to t + 1, brought to t.

    By new noise, or with `reverse_step` by the mean of the reverse step from (answer, x_{t+1}). At T, which nothing
    comes before, the noised truth is used.
    """
    last = len(process) - 1
    before = (index + 1).clamp_max(last)
    guess, x_before = first_guess(predict, x_start, process, before, draws)
    if process.config.reverse_step:
        x_t = q_posterior_mean(process.schedule, guess, x_before, before)
    else:
        x_t = q_sample(process.schedule, guess, index, draws.normal())
    x_t = torch.where(column(index == last, x_t), x_before, x_t)
    return Answer(predict(x_to_mask(x_t), index), x_t)
