"""From a volume to the network's tensor and from its answer back to the volume's own grid."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from DiffSegLib.config import DataConfig
from DiffSegLib.data.volume import Orientation, Volume, machine_memory, orientation_of, resample, resampled_shape
from DiffSegLib.errors import InputError

LEAST = 1e-30  # scale of an image's values; below it float32 has not all its digits
COPIES = 2  # of the resampled float32 image: before and after it is normalised


@dataclass(frozen=True)
class Grid:
    """What is needed to undo `to_model_space`: the orientation, and the canonical shape before resampling.

    thin: the canonical axis of one voxel that a 2D network does not see; `shape` is without it. None in 3D.
    """

    orientation: Orientation
    shape: tuple[int, ...]
    thin: int | None = None

    def undo(self, array: np.ndarray) -> np.ndarray:
        """(*shape) -> (K, J, I)."""
        array = array if self.thin is None else np.expand_dims(array, self.thin)
        return np.ascontiguousarray(self.orientation.undo(array))


def normalise(image: torch.Tensor, rule: str, of: torch.Tensor | None = None) -> torch.Tensor:
    """(C, *spatial) float32, each channel by itself, over the whole volume (never per window).

    of: (C, any) what the statistics are taken of instead, such as the volume that `image` is a part of.

    `zscore`: clip to the 0.5 and 99.5 percentile, subtract the mean, divide by the standard deviation.
    `percentile`: the 0.5 and 99.5 percentile become 0 and 1. `ct`: HU clipped to [-1000, 1000] and divided by 500.
    A channel that is constant, for this or between these percentiles, becomes 0.
    """
    if rule == "ct":
        return image.clamp(-1000.0, 1000.0) / 500.0
    out = image.float() if image.dtype != torch.float32 else image.clone()
    for channel, source in zip(out, image if of is None else of, strict=True):
        low, high = (float(x) for x in np.percentile(source.numpy(), (0.5, 99.5)))
        if rule == "percentile":
            shift, scale = low, high - low
        else:
            shift, scale = _moments(source, low, high)
        if scale > max(1e-8 * abs(shift), LEAST):
            channel.clamp_(low, high).sub_(shift).div_(scale)
        else:
            channel.zero_()
    return out


def _moments(values: torch.Tensor, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation of the clipped values in double precision, part by part: no second copy of them."""
    parts = values.reshape(-1).split(1 << 22)
    mean = sum(float(part.double().clamp_(low, high).sum()) for part in parts) / values.numel()
    squares = sum(float(part.double().clamp_(low, high).sub_(mean).square_().sum()) for part in parts)
    return mean, math.sqrt(squares / values.numel())


def to_model_space(volume: Volume, data: DataConfig, of: np.ndarray | None = None) -> tuple[torch.Tensor, Grid]:
    """Canonical axes, the model's spacing, normalised: (C, *spatial) float32, where spatial is (z, y, x).

    With a `data.patch` of two numbers the axis of one voxel is left out: (y, x) for an axial slice or a PNG.
    """
    turned, spacing, grid = _canonical(volume, data)
    shape = model_shape(grid.shape, spacing, data, len(turned), volume.name)
    image = resample(torch.from_numpy(turned), shape)
    return normalise(image, data.normalisation, None if of is None else torch.from_numpy(of)), grid


def label_to_model_space(label: np.ndarray, affine: np.ndarray, data: DataConfig) -> torch.Tensor:
    """A (K, J, I) label map on the network's grid: (*spatial) uint8, nearest neighbour."""
    turned, spacing, grid = _canonical(Volume(label[None], affine, "label"), data)
    return resample(torch.from_numpy(turned), model_shape(grid.shape, spacing, data, 1, "label"), nearest=True)[0]


def model_shape(
    shape: tuple[int, ...], spacing: tuple[float, ...], data: DataConfig, channels: int, name: str
) -> tuple[int, ...]:
    """Size of the model's grid over that of a volume of `shape` voxels with `spacing` in mm, both (*spatial).

    Raises InputError, before anything is allocated, for a grid that no memory of this machine holds, and for one of a
    single voxel: both come of spacings that are not in mm.
    """
    found = resampled_shape(shape, spacing, data.spacing)
    if data.spacing is None or found == tuple(shape):
        return found
    mm, extent, own = (
        " x ".join(f"{x:.4g}" for x in reversed(values))
        for values in (spacing, [n * s for n, s in zip(shape, spacing, strict=True)], data.spacing)
    )
    size = f"{name}: is {extent} mm large, in voxels of {mm} mm; at the model's {own} mm that is"
    if 4 * COPIES * channels * math.prod(found) > machine_memory():
        many = f"{min(math.prod(found), 10**99):.2g} voxels, more than this machine's memory holds"
        raise InputError(f"{size} {many}. Is its spacing in mm? If so, choose a region of interest.")
    if max(found) == 1:
        raise InputError(f"{size} a single voxel. Is its spacing in mm?")
    return found


def _canonical(volume: Volume, data: DataConfig) -> tuple[np.ndarray, tuple[float, ...], Grid]:
    """(C, *spatial) in canonical axes, the spacing of these axes in mm, and the way back.

    Raises InputError for a volume of several slices and a 2D network.
    """
    orientation = orientation_of(volume.affine)
    turned = np.ascontiguousarray(orientation.apply(volume.array))
    spacing = tuple(volume.spacing[axis] for axis in orientation.axes)
    thin = None
    if len(data.patch) == 2:
        if 1 not in turned.shape[1:]:
            size = " x ".join(map(str, turned.shape[1:]))
            raise InputError(f"{volume.name}: is a volume of {size} voxels; a 2D network takes one slice.")
        thin = turned.shape[1:].index(1)
        turned, spacing = turned.squeeze(1 + thin), spacing[:thin] + spacing[thin + 1 :]
    return turned, spacing, Grid(orientation, turned.shape[1:], thin)
