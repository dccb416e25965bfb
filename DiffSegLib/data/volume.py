"""A volume in memory, and its way to the canonical grid and back.

Arrays are (channels, K, J, I) as SimpleITK and Slicer give them; the affine takes voxel (i, j, k, 1) to LPS world
coordinates in mm. Canonical axes are (z, y, x) = towards superior, posterior, left, so that every network sees every
patient the same way up, however the file was stored.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from DiffSegLib.errors import InputError

if TYPE_CHECKING:  # reading and writing files needs no torch, and Slicer's own process has none
    import torch

SHEARED = "its axes are not at right angles (sheared grid); resample it to a straight grid first."
SHEAR_TOLERANCE = 1e-3  # largest cosine between two axes of a grid that still counts as orthogonal
SPACING_TOLERANCE = 1e-3  # relative; a closer spacing is not resampled
ANISOTROPIC = 3.0  # nnU-Net's threshold: one axis this much coarser than the next


@dataclass(frozen=True, eq=False)
class Volume:
    """array: (C, K, J, I) float32; affine: (4, 4) float64, ijk -> LPS mm; name: for messages.

    notes: sentences on what was mended when it was read.
    """

    array: np.ndarray
    affine: np.ndarray
    name: str = "image"
    notes: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm in array order (k, j, i)."""
        return tuple(float(x) for x in np.linalg.norm(self.affine[:3, :3], axis=0)[::-1])


def coarse_axis(spacing: tuple[float, ...]) -> int | None:
    """The axis of a 3D grid along which voxels are more than ANISOTROPIC times as long as along any other, or None."""
    worst = int(np.argmax(spacing))
    others = [mm for axis, mm in enumerate(spacing) if axis != worst]
    return worst if len(spacing) == 3 and spacing[worst] > ANISOTROPIC * max(others) else None


def check_geometry(affine: np.ndarray, name: str) -> None:
    """Raise InputError for a grid that no mask could be laid on: non-finite, zero spacing, or sheared."""
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all():
        raise InputError(f"{name}: its position, directions or spacing are not numbers (NaN); correct the header.")
    if lengths.min() < 1e-6:
        found = ", ".join(f"{x:g}" for x in lengths)
        raise InputError(f"{name}: its voxel spacing ({found} mm) is not above zero; correct the header.")
    cosines = (columns / lengths).T @ (columns / lengths)
    if np.abs(cosines - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise InputError(f"{name}: {SHEARED}")


def machine_memory() -> int:
    """Bytes of memory that this machine has, or that its container may use; 64 GiB where the system does not say."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        machine = 64 << 30
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or one without a limit
        return machine


@dataclass(frozen=True)
class Orientation:
    """How to turn array axes to canonical ones: `axes[n]` is the array axis that becomes canonical axis n."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """(..., K, J, I) -> (..., z, y, x), a view."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.flip(turned, tuple(lead + n for n, flip in enumerate(self.flips) if flip))

    def undo(self, array: np.ndarray) -> np.ndarray:
        """(..., z, y, x) -> (..., K, J, I), a view."""
        lead = array.ndim - 3
        array = np.flip(array, tuple(lead + n for n, flip in enumerate(self.flips) if flip))
        back = np.argsort(self.axes)
        return array.transpose(*range(lead), *(lead + int(axis) for axis in back))


def orientation_of(affine: np.ndarray) -> Orientation:
    """The turn to canonical axes for the nearest signed permutation of the voxel axes."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(directions)  # of world axis and voxel axis; array axis of either is 2 - n
    axes, flips = [0, 0, 0], [False, False, False]
    for _ in range(3):  # greedily by the largest one: well defined for any rotation
        world, voxel = np.unravel_index(cosines.argmax(), cosines.shape)
        axes[2 - world], flips[2 - world] = 2 - int(voxel), bool(directions[world, voxel] < 0)
        cosines[world], cosines[:, voxel] = -1.0, -1.0
    return Orientation(tuple(axes), tuple(flips))


def resample(array: "torch.Tensor", shape: tuple[int, ...], nearest: bool = False) -> "torch.Tensor":
    """(C, *spatial) to (C, *shape) over the same field of view (voxel edges aligned, half-voxel convention)."""
    import torch

    if tuple(array.shape[1:]) == tuple(shape):
        return array
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    if nearest:
        return torch.nn.functional.interpolate(array[None].float(), shape, mode="nearest-exact")[0].to(array.dtype)
    return torch.nn.functional.interpolate(array[None].float(), shape, mode=linear, align_corners=False)[0]


def resampled_shape(
    shape: tuple[int, ...], spacing: tuple[float, ...], target: tuple[float, ...] | None
) -> tuple[int, ...]:
    """Size of a grid over the same field of view at `target` mm; the size itself where the spacing agrees already."""
    if target is None:
        return tuple(shape)
    return tuple(
        n if abs(s / t - 1.0) <= SPACING_TOLERANCE else max(1, round(n * s / t))
        for n, s, t in zip(shape, spacing, target, strict=True)
    )
