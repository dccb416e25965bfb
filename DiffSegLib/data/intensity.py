"""Random changes of intensity: contrast, gamma, noise, blur and low resolution."""

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.config import AugmentConfig


def change_intensity(
    image: Tensor, augment: AugmentConfig, spacing: tuple[float, ...], rng: np.random.Generator
) -> Tensor:
    """(C, *spatial) normalised image -> the same shape; each change happens with `intensity_probability`."""
    probability = augment.intensity_probability
    if rng.random() < probability:
        image = image * float(rng.uniform(0.75, 1.25)) + float(rng.uniform(-0.2, 0.2))
    if rng.random() < probability and augment.gamma > 0:
        image = gamma(image, float(np.exp(rng.uniform(-augment.gamma, augment.gamma))))
    if rng.random() < probability and augment.blur > 0:
        if rng.random() < 0.5:
            image = blur(image, float(rng.uniform(0.3, augment.blur)), spacing)
        else:
            image = low_resolution(image, float(rng.uniform(1.0, 1.0 + augment.blur)), spacing)
    if rng.random() < probability and augment.noise > 0:
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
    """Gaussian blur with `sigma` in units of the finest spacing; coarser axes are blurred by fewer voxels."""
    dims = image.ndim - 1
    convolve = (torch.nn.functional.conv2d, torch.nn.functional.conv3d)[dims - 2]
    for axis in range(dims):
        width = sigma * min(spacing) / spacing[axis]
        radius = max(1, int(np.ceil(3 * width)))
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / width) ** 2)
        shape, padding = [1] * dims, [0] * dims
        shape[axis], padding[axis] = len(kernel), radius
        image = convolve(image[:, None], (kernel / kernel.sum()).reshape(1, 1, *shape), padding=padding)[:, 0]
    return image


def low_resolution(image: Tensor, factor: float, spacing: tuple[float, ...]) -> Tensor:
    """Sampled down by `factor` along the finest axes (less where the voxels are coarser already) and up again."""
    finest = min(spacing)
    mode = {2: "bilinear", 3: "trilinear"}[image.ndim - 1]
    small = [max(1, round(n / max(1.0, factor * finest / s))) for n, s in zip(image.shape[1:], spacing, strict=True)]
    coarse = torch.nn.functional.interpolate(image[None], small, mode="nearest-exact")
    return torch.nn.functional.interpolate(coarse, image.shape[1:], mode=mode, align_corners=False)[0]
