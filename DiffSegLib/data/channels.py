"""The channels of one case: several files, one grid, which is that of the first."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffSegLib.data.files import affine_of, image_of, read
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError

GRID_TOLERANCE = 0.02  # of the smallest voxel edge, at the grid's far corner: headers round their numbers


def read_case(paths: Sequence[Path], channels: int = 1) -> Volume:
    """The image of a case, (C, K, J, I) on the first file's grid.

    A file on another grid is resampled linearly in physical space; outside of it stands its smallest value. Raises
    InputError for an unreadable file, and for a channel that lies somewhere else altogether.
    """
    return on_first_grid(read(path, channels if len(paths) == 1 else 1) for path in paths)


def on_first_grid(volumes: Iterable[Volume]) -> Volume:
    """The channels of several volumes as one (C, K, J, I) on the first one's grid; see read_case."""
    remaining = iter(volumes)
    first = next(remaining)
    arrays, notes = [first.array], [*first.notes]
    for volume in remaining:
        notes += volume.notes
        if not same_grid(first.array.shape[1:], first.affine, volume.array.shape[1:], volume.affine):
            volume = _on_grid_of(first, volume)
        arrays.append(volume.array)
    return Volume(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], first.affine, first.name, tuple(notes))


def same_grid(
    shape: tuple[int, ...], affine: np.ndarray, other_shape: tuple[int, ...], other_affine: np.ndarray
) -> bool:
    """Whether two (K, J, I) grids have the same voxels: equal shapes and corners in the same places."""
    if tuple(shape) != tuple(other_shape):
        return False
    corners = np.array([[i, j, k, 1] for i in (0, shape[2]) for j in (0, shape[1]) for k in (0, shape[0])])
    apart = float(np.abs(corners @ (affine - other_affine).T).max())
    return apart <= GRID_TOLERANCE * float(np.linalg.norm(affine[:3, :3], axis=0).min())


def difference(
    shape: tuple[int, ...], affine: np.ndarray, other_shape: tuple[int, ...], other_affine: np.ndarray
) -> str:
    """What is different about two (K, J, I) grids, in words; empty where they are the same."""
    if same_grid(shape, affine, other_shape, other_affine):
        return ""
    one, other = _in_words(shape, affine), _in_words(other_shape, other_affine)
    return f"{one} against {other}" if one != other else "the directions of their axes"


def _in_words(shape: tuple[int, ...], affine: np.ndarray) -> str:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    size, mm = (" x ".join(f"{x:g}" for x in values) for values in (shape[::-1], spacing))
    origin = ", ".join(f"{x:.6g}" for x in affine[:3, 3])
    return f"{size} voxels of {mm} mm at {origin}"


def _on_grid_of(first: Volume, volume: Volume) -> Volume:
    reference = image_of(first.array[0], first.affine)
    moved, covered = [], False
    for channel in volume.array:
        low = float(channel.min())
        one = min(1.0, float(channel.max()) - low) or 1.0  # of a unit in which values are tiny, 1 would swallow them
        image = image_of(channel - low + one, volume.affine)  # at least that inside, so that 0 says outside
        found = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, 0.0))
        covered = covered or bool(found.any())
        moved.append(np.where(found > 0, found - one + low, low).astype(np.float32))
    if not covered:
        raise InputError(f"{volume.name}: lies nowhere on the grid of {first.name}, whose channel it should be.")
    return Volume(np.stack(moved), affine_of(reference), volume.name)
