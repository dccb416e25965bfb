"""One reverse step, DDPM or DDIM, and the loop of K steps that yields every intermediate prediction."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.diffusion.gaussian import gather, predict_noise, q_posterior_mean, x_to_mask
from DiffSegLib.diffusion.schedule import Schedule

# (mask seen by the network (B, C, *spatial), time (B,)) -> predicted x_0 (B, C, *spatial)
Denoiser = Callable[[Tensor, Tensor], Tensor]
# (step index, shape) -> standard normal noise
NoiseSource = Callable[[int, torch.Size], Tensor]


def ddpm_step(
    schedule: Schedule, x_start: Tensor, x_t: Tensor, index: Tensor, noise: Tensor, variance: str = "fixed_small"
) -> Tensor:
    """x_{t-1} ~ q(x_{t-1} | x_t, x_0) (DDPM eq. 6-7); exactly x_0 at index 0.

    `fixed_small` is the posterior's own variance, `fixed_large` beta_t (DDPM section 3.2).
    """
    sigma2 = schedule.posterior_variance if variance == "fixed_small" else schedule.betas
    sigma = gather(np.sqrt(np.where(np.arange(len(schedule)) == 0, 0.0, sigma2)), index, x_t)
    return q_posterior_mean(schedule, x_start, x_t, index) + sigma * noise


def ddim_step(
    schedule: Schedule, x_start: Tensor, x_t: Tensor, index: Tensor, noise: Tensor | None = None, eta: float = 0.0
) -> Tensor:
    """x_{t-1} of DDIM (Song et al. 2021, eq. 12 and 16); deterministic for eta = 0, x_0 exactly at index 0."""
    previous = schedule.alphas_cumprod_prev
    sigma = eta * np.sqrt(schedule.posterior_variance)
    direction = gather(np.sqrt(np.maximum(1.0 - previous - sigma**2, 0.0)), index, x_t)
    x = gather(np.sqrt(previous), index, x_t) * x_start
    x = x + direction * predict_noise(schedule, x_start, x_t, index)
    return x if noise is None or eta == 0.0 else x + gather(sigma, index, x_t) * noise


def sample_steps(
    denoise: Denoiser,
    schedule: Schedule,
    x_t: Tensor,
    noise: NoiseSource,
    sampler: str = "ddim",
    time: str = "original",
) -> Iterator[Tensor]:
    """Yield the predicted x_0 of each step, from the noisiest level to the cleanest; the last one is the answer.

    x_t: standard normal (B, C, *spatial). `noise(k, shape)` serves DDPM's fresh noise at index k.

        for x_start in sample_steps(denoise, respace(schedule, 5), x_T, noise): ...
    """
    times = schedule.time if time == "original" else schedule.time_of_index
    for k in range(len(schedule) - 1, -1, -1):
        index = torch.full((x_t.shape[0],), k, dtype=torch.int64)
        t = torch.full((x_t.shape[0],), float(times[k]), dtype=torch.float32, device=x_t.device)
        x_start = denoise(x_to_mask(x_t), t)
        yield x_start
        if k == 0:
            return
        if sampler == "ddim":
            x_t = ddim_step(schedule, x_start, x_t, index)
        else:
            x_t = ddpm_step(schedule, x_start, x_t, index, noise(k, x_t.shape).to(x_t))
