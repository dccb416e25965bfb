"""Overlapping classes: regions are unions of label values (nnU-Net's region-based training)."""

import torch
from torch import Tensor

from DiffSegLib.data.cases import Dataset


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
