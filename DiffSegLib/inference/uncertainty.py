"""How sure the probabilities of the classes are, as one number for each voxel."""

import numpy as np
import torch
from torch import Tensor


def entropy(probability: Tensor) -> Tensor:
    """(C, *spatial) probabilities -> (*spatial) entropy divided by log C: 0 is certain, 1 is undecided."""
    p = probability.clamp_min(1e-8)
    return -(p * p.log()).sum(0) / float(np.log(len(probability)))


def binary_entropy(probability: Tensor) -> Tensor:
    """(C, *spatial) probabilities of overlapping classes -> (*spatial), 0..1: that of the least certain class."""
    return torch.stack([entropy(torch.stack([p, 1.0 - p])) for p in probability]).amax(0)


def tempered(probability: Tensor, temperature: float, exclusive: bool) -> Tensor:
    """Softmax (or sigmoid) of the logits divided by `temperature` (Guo et al. 2017), from (C, any) probabilities.

    Above 1 it makes a network less sure of itself; which class is the most probable never changes.
    """
    if temperature == 1.0:
        return probability
    p = probability.clamp(1e-6, 1.0 - 1e-6) ** (1.0 / temperature)
    rest = p.sum(0) if exclusive else p + (1.0 - probability).clamp(1e-6, 1.0 - 1e-6) ** (1.0 / temperature)
    return p / rest


def uncertainty(probability: Tensor, temperature: float, exclusive: bool) -> Tensor:
    """(C, *spatial) probabilities, background first -> (*spatial), 0 is certain, 1 is undecided."""
    p = tempered(probability, temperature, exclusive)
    return entropy(p) if exclusive else binary_entropy(p[1:])
