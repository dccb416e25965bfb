"""Losses on logits, per sample: (B, C, *spatial) logits and the truth -> (B,).

The truth is (B, *spatial) class indices or, where labels overlap, (B, C, *spatial) zeros and ones. `exclusive` takes
softmax over the classes; without it each class is a sigmoid of its own, and cross-entropy and focal sum over them.
Channel 0 is the background in both cases, and Dice leaves it out.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from DiffSegLib.config import LossConfig
from DiffSegLib.data.smoothing import smoothed


def dice_loss(logits: Tensor, label: Tensor, exclusive: bool = True) -> Tensor:
    """1 - 2 sum(p m) / (sum p + sum m), mean over the foreground classes present in the patch; 0 where there is none.

    No smoothing term: it would reward predicting nothing for small structures (ImgX-DiffSeg, imgx/loss/dice.py).
    """
    probability = torch.softmax(logits, dim=1) if exclusive else torch.sigmoid(logits)
    loss, present = dice_by_class(probability[:, 1:], as_mask(label, logits)[:, 1:])
    return loss.sum(1) / present.sum(1).clamp_min(1)


def dice_by_class(probability: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Dice loss of each class, 0 where the truth has none of it, and whether it has: both (B, C)."""
    probability, truth = probability.flatten(2), truth.flatten(2)
    sizes = truth.sum(2)
    overlap = 2.0 * (probability * truth).sum(2) / (probability.sum(2) + sizes).clamp_min(1e-6)
    present = sizes > 0
    return torch.where(present, 1.0 - overlap, 0.0), present


def cross_entropy(logits: Tensor, label: Tensor, exclusive: bool = True) -> Tensor:
    """Mean over the voxels of -log p of the true class; or of (B, C, *spatial) shares of the classes."""
    return _voxel_nll(logits, label, exclusive)[0].flatten(1).mean(1)


def focal_loss(logits: Tensor, label: Tensor, exclusive: bool = True, gamma: float = 2.0) -> Tensor:
    """Mean over the voxels of -(1 - p)^gamma log p of the true class (Lin et al. 2017, eq. 4, without alpha)."""
    nll, classes = _voxel_nll(logits, label, exclusive, summed=False)
    return ((1.0 - torch.exp(-nll)) ** gamma * nll).flatten(1).mean(1) * classes


def as_mask(label: Tensor, like: Tensor) -> Tensor:
    """Either form of the truth -> (B, C, *spatial) zeros and ones of the type of `like`."""
    return (label if label.ndim == like.ndim else one_hot(label, like.shape[1]).movedim(-1, 1)).to(like)


def soft_borders(label: Tensor, like: Tensor, sigma: float) -> Tensor:
    """Either form of the truth -> (B, C, *spatial) shares of the classes, smoothed by a Gaussian of `sigma` voxels.

    As SVLS (Islam and Glocker 2021): whoever drew the border may have erred by so much.
    """
    mask = as_mask(label, like)
    return smoothed(mask.flatten(0, 1), sigma).view_as(mask)


def total_loss(logits: Tensor, label: Tensor, config: LossConfig, exclusive: bool = True) -> Tensor:
    """The weighted sum of the configured segmentation terms, (B,)."""
    loss = logits.new_zeros(len(logits))
    if config.dice:
        loss = loss + config.dice * dice_loss(logits, label, exclusive)
    if config.cross_entropy:
        truth = soft_borders(label, logits, config.soft_borders) if config.soft_borders else label
        loss = loss + config.cross_entropy * cross_entropy(logits, truth, exclusive)
    if config.focal:
        loss = loss + config.focal * focal_loss(logits, label, exclusive, config.focal_gamma)
    return loss


def _voxel_nll(logits: Tensor, label: Tensor, exclusive: bool, summed: bool = True) -> tuple[Tensor, int]:
    """-log p of the truth, a value per voxel, or per voxel and class; and how many values make a voxel."""
    if exclusive:
        return torch.nn.functional.cross_entropy(logits, label, reduction="none"), 1
    nll = binary_cross_entropy_with_logits(logits, as_mask(label, logits), reduction="none")
    return (nll.sum(1), 1) if summed else (nll, logits.shape[1])
