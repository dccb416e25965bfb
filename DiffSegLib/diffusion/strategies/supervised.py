"""Plain segmentation: the same network without mask and time."""

from torch import Tensor

from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.strategies.contract import Answer, Draws, Predict


def supervised(predict: Predict, x_start: Tensor, process: Process, index: Tensor, draws: Draws) -> Answer:
    """One pass on the image alone; there is no x_t, the truth stands in its place."""
    return Answer(predict(None, index), x_start)
