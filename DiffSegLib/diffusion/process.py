"""A configured diffusion: which noise levels there are, and what the network's output means at each of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.config_idle import SELF_CONDITIONED
from DiffSegLib.diffusion.gaussian import gather, levels, logits_to_x, predict_noise, predict_x_start, x_to_logits
from DiffSegLib.diffusion.schedule import Schedule, make_schedule, respace


@dataclass(frozen=True, eq=False)
class Process:
    """Everything that turns a network's output into x_0, noise and variance, for every parametrisation.

        process = make_process(DiffusionConfig(), steps=5)
        x_start = process.x_start(network(image, mask, process.time(index)), x_t, index)

    `output` is what the network returned, (B, C or 2 C, *spatial); x_t is (B, C, *spatial), `index` (B,) int64.
    """

    config: DiffusionConfig
    schedule: Schedule

    def __len__(self) -> int:
        return len(self.schedule)

    @property
    def exclusive(self) -> bool:
        """Whether a voxel belongs to one class only (softmax), or labels may overlap (sigmoid)."""
        return self.config.classes == "exclusive"

    def time(self, index: Tensor) -> Tensor:
        """(B,) float32, what the network is told; the original schedule's unless `time` is `index`."""
        times = self.schedule.time if self.config.time == "original" else self.schedule.time_of_index
        return torch.as_tensor(times, dtype=torch.float32)[index.cpu()]

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction (B, C, ...) and, where the variance is learned, its channels (B, C, ...)."""
        if self.config.variance not in ("learned", "learned_range"):
            return output, None
        prediction, variance = output.chunk(2, dim=1)
        return prediction, variance

    def x_start(self, output: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """The predicted x_0.

        `x_start`: the output is logits. `epsilon`: DDPM eq. 4 solved for x_0. `v`: Salimans & Ho 2022, appendix D,
        x_0 = sqrt(alphas_cumprod) x_t - sqrt(1 - alphas_cumprod) v. Neither of the two is bounded to [-1, 1] by itself.
        """
        prediction, _ = self.split(output)
        if self.config.parametrisation == "x_start":
            return logits_to_x(prediction, self.exclusive)
        if self.config.parametrisation == "epsilon":
            return predict_x_start(self.schedule, prediction, x_t, index)
        signal, sigma = levels(self.schedule, index, x_t)
        return signal * x_t - sigma * prediction

    def guess(self, output: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """The predicted x_0 that the chain goes on from, clipped to [-1, 1] unless `clip_x_start` is off.

        At the noisiest of 1001 linear levels a prediction of the noise is multiplied by 158, so an unclipped chain
        starts hundreds of units away from any mask.
        """
        x_start = self.x_start(output, x_t, index)
        bounded = self.config.parametrisation == "x_start" or not self.config.clip_x_start
        return x_start if bounded else x_start.clamp(-1.0, 1.0)

    def noise(self, output: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """The predicted eps."""
        prediction, _ = self.split(output)
        if self.config.parametrisation == "epsilon":
            return prediction
        if self.config.parametrisation == "x_start":
            return predict_noise(self.schedule, self.x_start(output, x_t, index), x_t, index)
        signal, sigma = levels(self.schedule, index, x_t)
        return signal * prediction + sigma * x_t

    def logits(self, output: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """Logits of the classes for segmentation losses; beyond 1e-5 of 0 and 1 their gradient is cut off."""
        if self.config.parametrisation == "x_start":
            return self.split(output)[0]
        return x_to_logits(self.x_start(output, x_t, index), self.exclusive)

    def log_variance(self, output: Tensor, index: Tensor) -> Tensor:
        """Log variance of p(x_{t-1} | x_t), to be broadcast over x_t.

        `fixed_small` and `fixed_large`: DDPM section 3.2; `learned`: extra channels are it; `learned_range`: between
        the two by sigmoid(extra channels) (Nichol & Dhariwal 2021, eq. 15, who use (v + 1) / 2).
        """
        small = gather(self.schedule.posterior_log_variance, index, output)
        _, extra = self.split(output)
        if self.config.variance == "learned" and extra is not None:
            return extra
        if self.config.variance == "fixed_small":
            return small
        betas = self.schedule.betas
        if extra is None:
            # at index 0 nothing is drawn, and log beta_0 would be far below what the bound needs
            return gather(np.append(self.schedule.posterior_log_variance[0], np.log(betas[1:])), index, output)
        large, weight = gather(np.log(betas), index, output), torch.sigmoid(extra)
        return weight * large + (1.0 - weight) * small


def make_process(config: DiffusionConfig, steps: int | None = None) -> Process:
    """The process of a configuration over `steps` noise levels (its `train_steps` by default)."""
    full = make_schedule(config.schedule, config.timesteps, config.beta_start, config.beta_end)
    return Process(config, respace(full, config.train_steps if steps is None else steps))


def mask_channels(config: DiffusionConfig, num_classes: int) -> int:
    """Channels of the network's second input: none for the supervised twin, two masks with self-conditioning."""
    if config.strategy == "supervised":
        return 0
    return num_classes * (2 if config.strategy in SELF_CONDITIONED else 1)


def output_channels(config: DiffusionConfig, num_classes: int) -> int:
    """Channels of the network's output: twice the classes where the variance is learned."""
    return num_classes * (2 if config.variance in ("learned", "learned_range") else 1)
