"""One reverse step, DDPM or DDIM, and the loop of K steps that yields every intermediate prediction."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.config_idle import SELF_CONDITIONED
from DiffSegLib.diffusion.gaussian import column, gather, q_posterior_mean, x_to_mask
from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.schedule import Schedule

# (mask seen by the network (B, C or 2 C, *spatial) or None, time (B,)) -> the network's output
Denoiser = Callable[[Tensor | None, Tensor], Tensor]
# (step index, shape) -> standard normal noise
NoiseSource = Callable[[int, torch.Size], Tensor]


def ddpm_step(
    schedule: Schedule, x_start: Tensor, x_t: Tensor, index: Tensor, noise: Tensor, log_variance: Tensor | None = None
) -> Tensor:
    """x_{t-1} ~ q(x_{t-1} | x_t, x_0) (DDPM eq. 6-7); exactly x_0 at index 0.

    log_variance: of the added noise, broadcastable to x_t; the posterior's own (`fixed_small`) if None.
    """
    if log_variance is None:
        sigma = gather(np.sqrt(schedule.posterior_variance), index, x_t)
    else:
        sigma = column(index > 0, x_t) * torch.exp(0.5 * log_variance)
    return q_posterior_mean(schedule, x_start, x_t, index) + sigma * noise


def ddim_step(
    schedule: Schedule, x_start: Tensor, x_t: Tensor, index: Tensor, noise: Tensor | None = None, eta: float = 0.0
) -> Tensor:
    """x_{t-1} of DDIM (Song et al. 2021, eq. 12 and 16); deterministic for eta = 0, x_0 exactly at index 0.

    With eps solved for in eq. 12 it is a sum of x_0 and x_t, and not more.
    """
    current, previous = schedule.alphas_cumprod, schedule.alphas_cumprod_prev
    sigma = eta * np.sqrt(schedule.posterior_variance)
    coef_x_t = np.sqrt(np.maximum(1.0 - previous - sigma**2, 0.0) / (1.0 - current))
    coef_start = gather(np.sqrt(previous) - coef_x_t * np.sqrt(current), index, x_t)
    x = (gather(coef_x_t, index, x_t) * x_t).addcmul_(coef_start, x_start)
    return x if noise is None or eta == 0.0 else x.add_(gather(sigma, index, x_t) * noise)


def sample_steps(
    denoise: Denoiser, process: Process, x_t: Tensor, noise: NoiseSource, sampler: str = "ddim"
) -> Iterator[Tensor]:
    """Yield the predicted x_0 of each step, from the noisiest level to the cleanest; the last one is the answer.

    x_t: standard normal (B, C, *spatial). `noise(k, shape)` serves the fresh noise at index k of DDPM, and of DDIM with
    `eta` above 0. A supervised network has one answer, which is yielded at every step.

        for x_start in sample_steps(denoise, make_process(config, 5), x_T, noise): ...
    """
    config, schedule = process.config, process.schedule
    guess: Tensor | None = None
    remembers = config.strategy in SELF_CONDITIONED
    for k in range(len(schedule) - 1, -1, -1):
        index = torch.full((x_t.shape[0],), k, dtype=torch.int64)
        time = process.time(index).to(x_t.device)
        if config.strategy == "supervised":
            guess = process.x_start(denoise(None, time), x_t, index) if guess is None else guess
            yield guess
            continue
        shown = x_to_mask(x_t)
        if remembers:
            shown = torch.cat([shown, torch.zeros_like(shown) if guess is None else x_to_mask(guess)], dim=1)
        output = denoise(shown, time)
        del shown
        guess = process.guess(output, x_t, index)
        if k > 0 and sampler == "ddim":
            fresh = noise(k, x_t.shape).to(x_t) if config.eta > 0 else None
            x_t = ddim_step(schedule, guess, x_t, index, fresh, config.eta)
        elif k > 0:
            log_variance = None if config.variance == "fixed_small" else process.log_variance(output, index)
            x_t = ddpm_step(schedule, guess, x_t, index, noise(k, x_t.shape).to(x_t), log_variance)
        # many windows may wait for their next step: nothing but what that needs is kept meanwhile
        answer = [guess]
        guess = guess if remembers else None
        x_t = x_t if k > 0 else x_t.new_empty(0)  # a part of it would keep all of it
        del output
        yield answer.pop()
