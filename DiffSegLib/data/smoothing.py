"""Smoothing by a Gaussian: of images that a training changes, of probabilities before the mask is taken from them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def smoothed(values: Tensor, sigma: float | Sequence[float]) -> Tensor:
    """(C, *spatial) convolved with a Gaussian of `sigma` voxels along each axis, or of one each; cut off at 3 sigma.

    The outermost voxels are repeated beyond the border, so what sums to one goes on doing so. 0 changes nothing.
    """
    sigmas = sigma if isinstance(sigma, Sequence) else [sigma] * (values.ndim - 1)
    for axis, width in enumerate(sigmas, start=1):
        if width == 0.0:
            continue
        radius = math.ceil(3.0 * width)
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / width) ** 2)
        weights = (kernel / kernel.sum()).tolist()
        size = values.shape[axis]
        edges = [values.narrow(axis, n, 1) for n in (0, size - 1)]
        low, high = (edge.repeat_interleave(radius, axis) for edge in edges)
        wide = torch.cat([low, values, high], axis)
        values = wide.narrow(axis, 0, size) * weights[0]
        for n, weight in enumerate(weights[1:], start=1):
            values.add_(wide.narrow(axis, n, size), alpha=weight)
    return values
