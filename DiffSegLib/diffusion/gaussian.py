"""The forward process q, its posterior, and the maps between logits, x-space and what the network sees.

x_t = sqrt(alphas_cumprod_t) x_0 + sqrt(1 - alphas_cumprod_t) eps   (DDPM eq. 4)

All tensors are (batch, classes, *spatial); `index` is (batch,) int64, a position in the schedule. What an expression
has made itself is written over in place: with many classes these lines are bound by memory.
"""

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.diffusion.schedule import Schedule

PROBABILITY_EPS = 1e-5  # of the reference


def column(values: Tensor, like: Tensor) -> Tensor:
    """(batch,) shaped (batch, 1, ...) on the device of `like`."""
    return values.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def gather(values: np.ndarray, index: Tensor, like: Tensor) -> Tensor:
    """values[index] shaped (batch, 1, ...) to multiply with `like`, in its dtype."""
    picked = torch.as_tensor(values, dtype=torch.float64)[index.cpu()]
    return column(picked.to(like.dtype), like)


def levels(schedule: Schedule, index: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of signal and noise at `index`, sqrt(alphas_cumprod) and sqrt(1 - alphas_cumprod); as `gather`."""
    kept = schedule.alphas_cumprod
    return gather(np.sqrt(kept), index, like), gather(np.sqrt(1.0 - kept), index, like)


def q_sample(schedule: Schedule, x_start: Tensor, index: Tensor, noise: Tensor) -> Tensor:
    """x_t of the forward process (DDPM eq. 4)."""
    signal, sigma = levels(schedule, index, x_start)
    return signal * x_start + sigma * noise


def q_posterior_mean(schedule: Schedule, x_start: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0) (DDPM eq. 7); exactly x_0 at index 0."""
    coef_start = gather(schedule.posterior_mean_coef_x_start, index, x_t)
    return (coef_start * x_start).addcmul_(gather(schedule.posterior_mean_coef_x_t, index, x_t), x_t)


def predict_noise(schedule: Schedule, x_start: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
    """The noise that belongs to (x_0, x_t): q_sample solved for the noise."""
    signal, sigma = levels(schedule, index, x_t)
    return (x_t - signal * x_start).div_(sigma)


def predict_x_start(schedule: Schedule, noise: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
    """The x_0 that belongs to (eps, x_t): q_sample solved for x_0."""
    signal, sigma = levels(schedule, index, x_t)
    return (x_t - sigma * noise) / signal


def mask_to_x(mask: Tensor) -> Tensor:
    """One-hot or probabilities in [0, 1] -> x-space [-1, 1]."""
    return torch.add(mask.new_full((), -1.0), mask, alpha=2.0)


def x_to_mask(x: Tensor) -> Tensor:
    """What the network sees of x_t: clipped to [-1, 1] and mapped to [0, 1].

    The sampler goes on from the unclipped x_t.
    """
    return x_to_probability(x).clamp_(0.0, 1.0)


def x_to_probability(x: Tensor) -> Tensor:
    """X-space [-1, 1] -> [0, 1]."""
    return torch.add(x.new_full((), 0.5), x, alpha=0.5)


def logits_to_x(logits: Tensor, exclusive: bool = True) -> Tensor:
    """Network output -> predicted x_0: softmax over classes, or sigmoid where regions may overlap."""
    return mask_to_x(torch.softmax(logits, dim=1) if exclusive else torch.sigmoid(logits))


def x_to_logits(x: Tensor, exclusive: bool = True) -> Tensor:
    """x_0 in x-space -> log probabilities clipped to [1e-5, 1], or logits where regions may overlap.

    Classes of an unbounded x_0 need not sum to 1; softmax of the logarithms makes them.
    """
    probability = x_to_probability(x)
    return (
        torch.log(probability.clamp(PROBABILITY_EPS, 1.0)) if exclusive else torch.logit(probability, PROBABILITY_EPS)
    )
