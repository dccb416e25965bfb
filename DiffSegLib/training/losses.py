"""Losses on logits, per sample, in float32: (B, C, *spatial) logits and (B, *spatial) class indices -> (B,)."""

import torch
from torch import Tensor

from DiffSegLib.config import LossConfig


def dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """1 - 2 sum(p m) / (sum p + sum m), mean over the foreground classes present in the patch; 0 where there is none.

    No smoothing term: it would reward predicting nothing for small structures (ImgX-DiffSeg, imgx/loss/dice.py).
    """
    probability = torch.softmax(logits.float(), dim=1)[:, 1:].flatten(2)
    truth = one_hot(label, logits.shape[1])[:, 1:].flatten(2)
    sizes = truth.sum(2)
    overlap = 2.0 * (probability * truth).sum(2) / (probability.sum(2) + sizes).clamp_min(1e-6)
    present = sizes > 0
    return torch.where(present, 1.0 - overlap, 0.0).sum(1) / present.sum(1).clamp_min(1)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean over the voxels of -log p of the true class."""
    return torch.nn.functional.cross_entropy(logits.float(), label, reduction="none").flatten(1).mean(1)


def focal_loss(logits: Tensor, label: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean over the voxels of -(1 - p)^gamma log p of the true class (Lin et al. 2017, eq. 4, without alpha)."""
    nll = torch.nn.functional.cross_entropy(logits.float(), label, reduction="none")
    return ((1.0 - torch.exp(-nll)) ** gamma * nll).flatten(1).mean(1)


def one_hot(label: Tensor, num_classes: int) -> Tensor:
    """(B, *spatial) int64 -> (B, num_classes, *spatial) float32."""
    return torch.nn.functional.one_hot(label, num_classes).movedim(-1, 1).float()


def total_loss(logits: Tensor, label: Tensor, config: LossConfig) -> Tensor:
    """The weighted sum of the configured terms, (B,)."""
    terms = ((config.dice, dice_loss), (config.cross_entropy, cross_entropy), (config.focal, focal_loss))
    loss = torch.zeros(len(logits), device=logits.device)
    for weight, term in terms:
        if weight:
            loss = loss + weight * term(logits, label)
    return loss
