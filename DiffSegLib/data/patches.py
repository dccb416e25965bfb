"""Training patches: where to cut, and the random affine, all in one resampling of the cached volume.

Every random number of iteration n comes from a generator seeded by (seed, n, rank), so a resumed training draws what an
uninterrupted one would, and no random state has to be saved.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.config import AugmentConfig, DataConfig
from DiffSegLib.data.intensity import change_intensity


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case ready to cut from: image (C, *spatial) float32 normalised, label (*spatial) uint8 class index.

    foreground: (n, dims) int32 voxel positions of at most a few thousand labelled voxels.
    """

    name: str
    image: Tensor
    label: Tensor
    spacing: tuple[float, ...]
    foreground: Tensor


def prepare(name: str, image: Tensor, label: Tensor, spacing: tuple[float, ...], keep: int = 4096) -> Prepared:
    """Collect the foreground positions, at most `keep`, evenly thinned."""
    found = label.nonzero()
    step = max(1, -(-len(found) // keep))
    return Prepared(name, image, label, spacing, found[::step].int())


def generator(seed: int, *counters: int) -> np.random.Generator:
    """A counter-based generator: the same numbers for the same (seed, counters), whatever was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *counters])))


def case_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` cases in one epoch: a full shuffle."""
    return generator(seed, 1, epoch).permutation(count)


def cut(case: Prepared, data: DataConfig, augment: AugmentConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One augmented patch: image (C, *patch) and label (*patch) int64. Voxels outside the volume are 0."""
    size, patch = np.array(case.label.shape), np.array(data.patch)
    start = _start(case, size, patch, rng, rng.random() < data.foreground)
    matrix, shift = _affine(case.spacing, patch, augment, rng)
    center = (patch - 1) / 2
    axes = [torch.arange(n, dtype=torch.float32) - c for n, c in zip(patch.tolist(), center.tolist(), strict=True)]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    position = offsets @ torch.from_numpy(matrix.T.astype(np.float32))
    position += torch.from_numpy((start + center + shift).astype(np.float32))
    image, label, grid = _around(case, position, size)
    sample = torch.nn.functional.grid_sample
    image = sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    label = sample(label[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
    return change_intensity(image, augment, case.spacing, rng), label.long()


def _around(case: Prepared, position: Tensor, size: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """The part of image and label that the voxel positions (*patch, dims) lie in, and the grid for grid_sample.

    Of a case that is mapped from a file, nothing else is read.
    """
    corners = (
        position[tuple(slice(None, None, max(n - 1, 1)) for n in position.shape[:-1])].reshape(-1, len(size)).numpy()
    )
    low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, size - 1)  # an affine map is widest at its corners
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2, low + 1, size)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    # voxel centres, not corners, at the ends (align_corners=False): right for an axis of one voxel, too
    inside = position - torch.from_numpy(low.astype(np.float32))
    grid = (2.0 * inside + 1.0) / torch.from_numpy((high - low).astype(np.float32)) - 1.0
    return case.image[(slice(None), *box)], case.label[box], grid.flip(-1)[None]  # grid_sample wants (x, y, z)


def batch_of(
    cases: list[Prepared],
    data: DataConfig,
    augment: AugmentConfig,
    size: int,
    seed: int,
    iteration: int,
    rank: int = 0,
    world: int = 1,
) -> tuple[Tensor, Tensor]:
    """The batch of an iteration: images (size, C, *patch), labels (size, *patch).

    Process `rank` of `world` takes its share of one global order, so every case is seen once an epoch.
    """
    images, labels = [], []
    for n in range(size):
        position = (iteration * world + rank) * size + n
        epoch, place = divmod(position, len(cases))
        case = cases[case_order(len(cases), seed, epoch)[place]]
        image, label = cut(case, data, augment, generator(seed, 2, position))
        images.append(image)
        labels.append(label)
    return torch.stack(images), torch.stack(labels)


def _start(
    case: Prepared, size: np.ndarray, patch: np.ndarray, rng: np.random.Generator, foreground: bool
) -> np.ndarray:
    """First voxel of the patch: every start position incl. the last is drawn; a small volume lies anywhere inside."""
    low, high = np.minimum(size - patch, 0), np.maximum(size - patch, 0)
    if foreground and len(case.foreground):
        voxel = case.foreground[int(rng.integers(len(case.foreground)))].numpy()
        low, high = np.maximum(low, voxel - patch + 1), np.minimum(high, voxel)
    return rng.integers(low, high, endpoint=True)


def _affine(
    spacing: tuple[float, ...], patch: np.ndarray, augment: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Voxel-to-voxel matrix and shift (voxels); rotation and scale act in mm, so anisotropic voxels do not shear."""
    dims = len(patch)
    matrix, shift = np.eye(dims), np.zeros(dims)
    if rng.random() < augment.affine_probability:
        for a in range(dims):
            for b in range(a + 1, dims):
                angle = np.deg2rad(rng.uniform(-augment.rotation, augment.rotation))
                turn = np.eye(dims)
                turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
                matrix = matrix @ turn
        scales = rng.uniform(1 - augment.scale, 1 + augment.scale) * rng.uniform(
            1 - augment.scale / 3, 1 + augment.scale / 3, dims
        )
        matrix = matrix @ np.diag(scales)
        shift = rng.uniform(-augment.shift, augment.shift, dims) * patch
    flips = [-1.0 if flip and rng.random() < 0.5 else 1.0 for flip in augment.flip]
    mm = np.array(spacing)
    return np.diag(1 / mm) @ matrix @ np.diag(flips) @ np.diag(mm), shift
