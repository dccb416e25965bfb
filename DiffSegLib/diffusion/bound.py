"""The variational bound of a step and the noise's squared error, per sample: the losses that need x_t.

L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) and L_0 = -log p(x_0 | x_1)   (DDPM eq. 5), in bits per value.
"""

import math

import torch
from torch import Tensor

from DiffSegLib.diffusion.gaussian import column, gather, q_posterior_mean
from DiffSegLib.diffusion.process import Process


def noise_mse(process: Process, output: Tensor, x_t: Tensor, index: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted eps, (B,) (DDPM eq. 14); for any parametrisation."""
    return (process.noise(output, x_t, index) - noise).square().flatten(1).mean(1)


def variational_bound(process: Process, output: Tensor, x_start: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
    """The term of the bound that belongs to `index`, in bits per value, (B,).

    x_start: the truth in x-space. Where the variance is learned the mean is held fixed, so that this term teaches the
    variance only (Nichol & Dhariwal 2021, section 3.1), and it is that of the sampler, clipped unless `clip_x_start` is
    off; elsewhere it is not clipped, as no gradient would pass.
    """
    learned = process.split(output)[1] is not None
    guess = process.guess(output, x_t, index).detach() if learned else process.x_start(output, x_t, index)
    true_mean = q_posterior_mean(process.schedule, x_start, x_t, index)
    true_log_variance = gather(process.schedule.posterior_log_variance, index, x_t)
    mean = q_posterior_mean(process.schedule, guess, x_t, index)
    log_variance = process.log_variance(output, index)
    divergence = normal_kl(true_mean, true_log_variance, mean, log_variance)
    first = column(index == 0, x_t)
    # elsewhere a harmless value: an infinite slope of the term that is not taken would make the gradient NaN
    likelihood = binary_nll(x_start, torch.where(first, mean, x_start), torch.where(first, log_variance, 0.0))
    return torch.where(first, likelihood, divergence).flatten(1).mean(1) / math.log(2.0)


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N(mean1, variance1) || N(mean2, variance2)) in nats, value by value."""
    ratio = log_variance1 - log_variance2
    return 0.5 * (torch.exp(ratio) - 1.0 - ratio + (mean1 - mean2).square() * torch.exp(-log_variance2))


def binary_nll(x_start: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log p(x_0) in nats where x_0 is -1 or 1: the normal distribution cut at 0.

    DDPM eq. 13 with two bins instead of 256: a mask has two values, a photograph's channel has 256.
    """
    deviations = torch.sign(x_start) * mean * torch.exp(-0.5 * log_variance)
    # in double: torch's slope of log_ndtr is the exponential of a difference of squares, wrong beyond -1000 in single
    return -torch.special.log_ndtr(deviations.double()).to(deviations)
