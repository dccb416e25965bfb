"""Distances between the surfaces of two masks, in mm: what HD95, ASD and NSD are made of.

The surface of a mask is its voxels with a face neighbour outside (mask XOR its erosion; the image's border counts as
outside), as in MONAI and in ImgX. Distances run between voxel centres. A k-d tree over the surface voxels is exact like
a distance transform, and its memory grows with the surfaces only: two specks at opposite corners of a whole-body scan
cost nothing, where a distance transform would need several arrays of the scan's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances in mm from each surface voxel of one mask to the nearest surface voxel of the other.

    `to_reference` has one entry for each surface voxel of the prediction, `to_prediction` one for each of the
    reference. Where the other mask is empty the entries are infinite.
    """

    to_reference: np.ndarray
    to_prediction: np.ndarray


def surface_points(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Centres of a mask's surface voxels: (N, dimensions) float64 in mm from the array's first voxel.

    `mask` is boolean of any dimension, `spacing` in mm in the same axis order.
    """
    low, high = [], []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if used.size == 0:
            return np.zeros((0, mask.ndim))
        low.append(int(used[0]))
        high.append(int(used[-1]) + 1)
    box = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    surface = box & ~binary_erosion(box)
    return (np.argwhere(surface) + low) * np.asarray(spacing, dtype=np.float64)


def surface_distances(prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Both directed sets of surface distances of two boolean masks of one shape; `spacing` in mm per axis.

    >>> line = np.arange(9) < 3
    >>> surface_distances(line, np.arange(9) < 5, [2.0]).to_prediction.tolist()
    [0.0, 4.0]

    Raises ValueError if shapes or the number of spacings do not fit, or a spacing is not above zero.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"the masks have different shapes: {prediction.shape} and {reference.shape}")
    if len(spacing) != prediction.ndim or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing {tuple(spacing)} must hold {prediction.ndim} numbers above zero")
    from_prediction = surface_points(prediction, spacing)
    from_reference = surface_points(reference, spacing)
    return SurfaceDistances(
        to_reference=_nearest(from_prediction, from_reference), to_prediction=_nearest(from_reference, from_prediction)
    )


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    if len(points) == 0 or len(others) == 0:
        return np.full(len(points), np.inf)
    distances, _ = KDTree(others).query(points)
    return np.asarray(distances)
