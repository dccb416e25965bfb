"""From a volume to the network's tensor and from its answer back to the volume's own grid."""

from dataclasses import dataclass

import numpy as np
import torch

from DiffSegLib.config import DataConfig
from DiffSegLib.data.volume import Orientation, Volume, orientation_of, resample, resampled_shape


@dataclass(frozen=True)
class Grid:
    """What is needed to undo `to_model_space`: the orientation, and the canonical shape before resampling."""

    orientation: Orientation
    shape: tuple[int, ...]


def normalise(image: torch.Tensor, rule: str) -> torch.Tensor:
    """(C, *spatial) float32, each channel by itself, over the whole volume (never per window).

    `zscore`: clip to the 0.5 and 99.5 percentile, subtract the mean, divide by the standard deviation.
    `percentile`: the 0.5 and 99.5 percentile become 0 and 1. `ct`: HU clipped to [-1000, 1000] and divided by 500.
    A constant channel becomes 0.
    """
    if rule == "ct":
        return image.clamp(-1000.0, 1000.0) / 500.0
    out = torch.empty_like(image, dtype=torch.float32)
    for n, channel in enumerate(image):
        low, high = (float(x) for x in np.percentile(channel.numpy(), (0.5, 99.5)))
        clipped = channel.float().clamp(low, high)
        if rule == "percentile":
            shift, scale = low, high - low
        else:
            shift, scale = float(clipped.double().mean()), float(clipped.double().std(correction=0))
        out[n] = (clipped - shift) / scale if scale > 1e-8 * max(abs(shift), 1e-8) else 0.0
    return out


def to_model_space(volume: Volume, data: DataConfig) -> tuple[torch.Tensor, Grid]:
    """A volume as the network sees it: canonical axes, the model's spacing, normalised; (C, z, y, x) float32."""
    orientation = orientation_of(volume.affine)
    turned = np.ascontiguousarray(orientation.apply(volume.array))
    spacing = tuple(volume.spacing[axis] for axis in orientation.axes)
    grid = Grid(orientation, turned.shape[1:])
    image = resample(torch.from_numpy(turned), resampled_shape(grid.shape, spacing, data.spacing))
    return normalise(image, data.normalisation), grid


def label_to_model_space(label: np.ndarray, affine: np.ndarray, data: DataConfig) -> torch.Tensor:
    """A (K, J, I) label map on the network's grid: (z, y, x) uint8, nearest neighbour."""
    orientation = orientation_of(affine)
    turned = np.ascontiguousarray(orientation.apply(label))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    spacing = tuple(float(lengths[axis]) for axis in orientation.axes)
    shape = resampled_shape(turned.shape, spacing, data.spacing)
    return resample(torch.from_numpy(turned)[None], shape, nearest=True)[0]


def classes_to_native(probabilities: torch.Tensor, grid: Grid) -> np.ndarray:
    """(classes, *spatial) on the network's grid -> (K, J, I) uint8 class index on the volume's own grid.

    Resampled class by class with a running best, so that no (classes x volume) array at native size ever exists.
    """
    if tuple(probabilities.shape[1:]) == grid.shape:
        best = probabilities.argmax(dim=0).to(torch.uint8)
    else:
        best = torch.zeros(grid.shape, dtype=torch.uint8)
        top = resample(probabilities[:1], grid.shape)[0]
        for n in range(1, len(probabilities)):
            value = resample(probabilities[n : n + 1], grid.shape)[0]
            better = value > top
            best[better] = n
            top = torch.maximum(top, value)
    return np.ascontiguousarray(grid.orientation.undo(best.numpy()))


def scalar_to_native(values: torch.Tensor, grid: Grid) -> np.ndarray:
    """A (*spatial) float map on the network's grid -> (K, J, I) float32 on the volume's own grid."""
    return np.ascontiguousarray(grid.orientation.undo(resample(values[None].float(), grid.shape)[0].numpy()))
