"""Random changes of intensity: contrast, gamma, blur, low resolution and noise.

Blur and low resolution act in mm: they reach as far along a coarse axis as along a fine one, which is fewer voxels, and
leave an axis alone whose voxels are coarser than they are.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from DiffSegLib.config import AugmentConfig
from DiffSegLib.data.smoothing import smoothed


def change_intensity(
    image: Tensor, augment: AugmentConfig, spacing: tuple[float, ...], rng: np.random.Generator
) -> Tensor:
    """(C, *spatial) normalised image -> the same shape; each change comes by its own chance."""
    if rng.random() < augment.contrast_probability:
        factor, offset = rng.uniform(-augment.contrast, augment.contrast), rng.uniform(-1.0, 1.0) * augment.brightness
        image = image * float(1.0 + factor) + float(offset)
    if rng.random() < augment.gamma_probability:
        image = gamma(image, float(np.exp(rng.uniform(-augment.gamma, augment.gamma))))
    if rng.random() < augment.blur_probability:
        image = blur(image, float(rng.uniform(0.5, 1.0)) * augment.blur * min(spacing), spacing)
    if rng.random() < augment.low_resolution_probability:
        image = low_resolution(image, float(rng.uniform(1.0, augment.low_resolution)) * min(spacing), spacing)
    if rng.random() < augment.noise_probability:
        sigma = float(rng.uniform(0.0, augment.noise))
        image = image + sigma * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return image


def gamma(image: Tensor, exponent: float) -> Tensor:
    """Each channel's range to [0, 1], to the power `exponent`, and back to its range."""
    axes = tuple(range(1, image.ndim))
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    width = (high - low).clamp_min(1e-6)
    return ((image - low) / width).pow(exponent) * width + low


def blur(image: Tensor, sigma: float, spacing: tuple[float, ...]) -> Tensor:
    """Gaussian blur with `sigma` in mm; the border's values go on beyond it."""
    widths = [sigma / mm for mm in spacing]
    return smoothed(image, [width if width >= 0.2 else 0.0 for width in widths])  # else weights are below 4e-6


def low_resolution(image: Tensor, edge: float, spacing: tuple[float, ...]) -> Tensor:
    """Sampled down to voxels of `edge` mm and up again (as by a scanner of that resolution)."""
    small = [max(1, round(n / max(1.0, edge / mm))) for n, mm in zip(image.shape[1:], spacing, strict=True)]
    if small == list(image.shape[1:]):
        return image
    mode = {2: "bilinear", 3: "trilinear"}[image.ndim - 1]
    coarse = interpolate(image[None], small, mode="nearest-exact")
    return interpolate(coarse, image.shape[1:], mode=mode, align_corners=False)[0]
