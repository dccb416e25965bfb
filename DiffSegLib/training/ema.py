"""The moving average of the weights, which is what a training gives away."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], network: nn.Module, decay: float, iteration: int) -> None:
    """In place: ema <- decay ema + (1 - decay) weights, with a smaller decay at the start (1 + n) / (10 + n)."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            ema[key].lerp_(value, 1.0 - decay)
        else:
            ema[key].copy_(value)
