"""x_T-recycling (Fu et al. 2023, MELBA 2023:016)."""

import torch
from torch import Tensor

from DiffSegLib.diffusion.gaussian import column, q_sample, x_to_mask
from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.strategies.contract import Answer, Draws, Predict, first_guess


def recycling(predict: Predict, x_start: Tensor, process: Process, index: Tensor, draws: Draws) -> Answer:
    """The network's own answer from x_T, noised to t, is its input.

    So training sees what inference sees: never the truth, always an earlier prediction. Where t is T itself there is no
    earlier prediction: the noised truth is used (its share of the signal is sqrt(alphas_cumprod_T) = 0.006), so that
    the level where inference starts is trained too; the reference leaves it out.
    """
    last = torch.full_like(index, len(process) - 1)
    guess, x_last = first_guess(predict, x_start, process, last, draws)
    x_t = q_sample(process.schedule, guess, index, draws.normal())
    x_t = torch.where(column(index == last, x_t), x_last, x_t)
    return Answer(predict(x_to_mask(x_t), index), x_t)
