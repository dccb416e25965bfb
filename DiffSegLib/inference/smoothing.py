"""Smoothing of the probabilities before the mask is taken from them: structures have smooth borders, noise has not."""

import math

import torch
from torch import Tensor


def smoothed(probability: Tensor, sigma: float) -> Tensor:
    """(C, *spatial) convolved with a Gaussian of `sigma` voxels along each axis, cut off at 3 sigma; 0 changes nothing.

    The outermost voxels are repeated beyond the border, so what sums to one goes on doing so.
    """
    if sigma == 0.0:
        return probability
    radius = math.ceil(3.0 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (kernel / kernel.sum()).tolist()
    for axis in range(1, probability.ndim):
        size = probability.shape[axis]
        edges = [probability.narrow(axis, n, 1) for n in (0, size - 1)]
        low, high = (edge.repeat_interleave(radius, axis) for edge in edges)
        wide = torch.cat([low, probability, high], axis)
        probability = wide.narrow(axis, 0, size) * weights[0]
        for n, weight in enumerate(weights[1:], start=1):
            probability.add_(wide.narrow(axis, n, size), alpha=weight)
    return probability
