"""Training patches: where to cut, and the random affine, all in one resampling of the cached volume.

Every random number of the n-th sample of a training comes from a generator seeded by (seed, n). So a resumed training
draws what an uninterrupted one would, no random state has to be saved, and neither the size of a batch nor the number
of processes changes a sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.config import AugmentConfig, DataConfig
from DiffSegLib.data.intensity import change_intensity
from DiffSegLib.data.volume import coarse_axis


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case ready to cut from: image (C, *spatial) float32 normalised, label (*spatial) uint8 class index.

    foreground: for each class that the label holds (n, dims) int32 voxel positions, at most a few thousand.
    """

    name: str
    image: Tensor
    label: Tensor
    spacing: tuple[float, ...]
    foreground: tuple[Tensor, ...]


def prepare(name: str, image: Tensor, label: Tensor, spacing: tuple[float, ...], keep: int = 4096) -> Prepared:
    """Collect the positions of each class, at most `keep`, evenly thinned."""
    found = [(label == value).nonzero() for value in label.unique().tolist() if value != 0]
    thinned = tuple(each[:: max(1, -(-len(each) // keep))].int() for each in found)
    return Prepared(name, image, label, spacing, thinned)


def generator(seed: int, *counters: int) -> np.random.Generator:
    """A counter-based generator: the same numbers for the same (seed, counters), whatever was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *counters])))


def cut(case: Prepared, data: DataConfig, augment: AugmentConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One augmented patch: image (C, *patch) and label (*patch) int64. Voxels outside the volume are 0."""
    size, patch = np.array(case.label.shape), np.array(data.patch)
    start = _start(case, size, patch, rng, rng.random() < data.foreground)
    matrix, shift = _affine(case.spacing, patch, augment, rng)
    image, label, grid = _around(case, matrix, start + (patch - 1) / 2 + shift, patch)
    sample = torch.nn.functional.grid_sample
    image = sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    label = sample(label[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
    return change_intensity(image, augment, case.spacing, rng), label.long()


def _around(case: Prepared, matrix: np.ndarray, center: np.ndarray, patch: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """The part of image and label that the patch lies in, and the grid (1, *patch, dims) for grid_sample.

    A voxel at `offset` from the patch's centre is taken from `matrix @ offset + center`. Of a case that is mapped from
    a file, nothing else is read.
    """
    corners = np.array(list(product((-0.5, 0.5), repeat=len(patch)))) * (patch - 1)  # there an affine map is widest
    reached = corners @ matrix.T + center
    low = np.clip(np.floor(reached.min(0)).astype(int) - 1, 0, np.array(case.label.shape) - 1)
    high = np.clip(np.ceil(reached.max(0)).astype(int) + 2, low + 1, case.label.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    # in grid_sample's coordinates: -1 and 1 are the outer edges (align_corners=False), axes in the order (x, y, z)
    turn = matrix * patch / (high - low)[:, None]
    move = (2.0 * (center - low) + 1.0) / (high - low) - 1.0
    theta = torch.from_numpy(np.column_stack([turn[::-1, ::-1], move[::-1]]).astype(np.float32))
    grid = torch.nn.functional.affine_grid(theta[None], [1, 1, *patch.tolist()], align_corners=False)
    return case.image[(slice(None), *box)], case.label[box], grid


def case_at(cases: Sequence[Prepared], seed: int, position: int) -> Prepared:
    """The case of the sample at `position`: one order for all processes, so every case is seen once an epoch."""
    epoch, place = divmod(position, len(cases))
    return cases[generator(seed, 1, epoch).permutation(len(cases))[place]]


def batch_of(
    cases: Sequence[Prepared], data: DataConfig, augment: AugmentConfig, seed: int, positions: Iterable[int]
) -> tuple[Tensor, Tensor]:
    """The samples at these positions of a training: images (B, C, *patch), labels (B, *patch)."""
    parts = [cut(case_at(cases, seed, n), data, augment, generator(seed, 2, n)) for n in positions]
    images, labels = zip(*parts, strict=True)
    return torch.stack(images), torch.stack(labels)


def _start(
    case: Prepared, size: np.ndarray, patch: np.ndarray, rng: np.random.Generator, foreground: bool
) -> np.ndarray:
    """First voxel of the patch: every start position incl. the last is drawn; a small volume lies anywhere inside."""
    low, high = np.minimum(size - patch, 0), np.maximum(size - patch, 0)
    if foreground and len(case.foreground):
        places = case.foreground[int(rng.integers(len(case.foreground)))]  # each class as often, however small
        voxel = places[int(rng.integers(len(places)))].numpy()
        low, high = np.maximum(low, voxel - patch + 1), np.minimum(high, voxel)
    return rng.integers(low, high, endpoint=True)


def _affine(
    spacing: tuple[float, ...], patch: np.ndarray, augment: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Voxel-to-voxel matrix and shift (voxels); rotation and scale act in mm, so anisotropic voxels do not shear.

    Thick slices stay whole: along a `coarse_axis` nothing but a flip happens, as in nnU-Net. Between slices that are
    far apart there is nothing to interpolate from.
    """
    dims = len(patch)
    matrix, shift = np.eye(dims), np.zeros(dims)
    if rng.random() < augment.affine_probability:
        free = np.arange(dims) != coarse_axis(spacing)
        for a, b in combinations(np.flatnonzero(free), 2):
            angle = np.deg2rad(rng.uniform(-augment.rotation, augment.rotation))
            turn = np.eye(dims)
            turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
            matrix = matrix @ turn
        scales = rng.uniform(1 - augment.scale, 1 + augment.scale) * rng.uniform(
            1 - augment.scale / 3, 1 + augment.scale / 3, dims
        )
        matrix = matrix @ np.diag(np.where(free, scales, 1.0))
        shift = np.where(free, rng.uniform(-augment.shift, augment.shift, dims) * patch, 0.0)
    flips = [-1.0 if flip and rng.random() < 0.5 else 1.0 for flip in augment.flip]
    mm = np.array(spacing)
    return np.diag(1 / mm) @ matrix @ np.diag(flips) @ np.diag(mm), shift
