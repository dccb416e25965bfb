"""Overlapping classes: regions are unions of label values (nnU-Net's region-based training)."""

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.data.cases import Dataset
from DiffSegLib.data.preprocess import Grid
from DiffSegLib.data.volume import resample


def membership(dataset: Dataset) -> Tensor | None:
    """(num_classes, labels + 1) ones where a class index of the label map belongs to a class; None without regions.

    Class 0 is what no region holds.
    """
    if not dataset.regions:
        return None
    values = [0, *(label.value for label in dataset.labels)]
    held = torch.tensor([[float(value in region.values) for value in values] for region in dataset.regions])
    return torch.cat([1.0 - held.amax(0, keepdim=True), held])


def as_regions(label: Tensor, regions: Tensor) -> Tensor:
    """(B, *spatial) class indices -> (B, num_classes, *spatial) zeros and ones."""
    return regions.to(label.device)[:, label].transpose(0, 1)


def regions_to_native(probabilities: Tensor, grid: Grid, values: list[int]) -> np.ndarray:
    """(num_classes, *spatial) on the network's grid -> (K, J, I) uint8 label map on the volume's own grid.

    Each region writes its value where its probability is above a half, and a later one overrides, as in nnU-Net.
    """
    found = torch.zeros(grid.shape, dtype=torch.uint8)
    for probability, value in zip(probabilities[1:], values, strict=True):
        found[resample(probability[None], grid.shape)[0] > 0.5] = value
    return grid.undo(found.numpy())
