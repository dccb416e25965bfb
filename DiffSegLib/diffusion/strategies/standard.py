"""Ordinary diffusion training (DDPM algorithm 1)."""

from torch import Tensor

from DiffSegLib.diffusion.gaussian import q_sample, x_to_mask
from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.strategies.contract import Answer, Draws, Predict


def standard(predict: Predict, x_start: Tensor, process: Process, index: Tensor, draws: Draws) -> Answer:
    """The truth, noised to t."""
    x_t = q_sample(process.schedule, x_start, index, draws.normal())
    return Answer(predict(x_to_mask(x_t), index), x_t)
