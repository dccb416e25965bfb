"""The loss of one training step: time, strategy, network, losses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from DiffSegLib.config import Config
from DiffSegLib.diffusion.bound import noise_mse, variational_bound
from DiffSegLib.diffusion.gaussian import mask_to_x, predict_noise
from DiffSegLib.diffusion.process import Process
from DiffSegLib.diffusion.strategies import STRATEGIES
from DiffSegLib.diffusion.strategies.contract import Answer
from DiffSegLib.network.features import denoise, encode, rows_of
from DiffSegLib.network.precision import autocast
from DiffSegLib.training.losses import as_mask, total_loss
from DiffSegLib.training.time_sampling import TimeSampler


@dataclass(frozen=True, eq=False)
class StepLoss:
    """mean: the weighted mean to go down along. index, per_sample: (B,) what the time sampler remembers."""

    mean: Tensor
    index: Tensor
    per_sample: Tensor


class SeededDraws:
    """Random numbers of a batch, drawn on the CPU so that every device trains on the same ones.

    Each sample has a source of its own, keyed by (seed, position): no splitting of a batch changes what it draws.
    """

    def __init__(self, like: Tensor, seed: int, positions: Iterable[int]) -> None:
        self.like = like
        self.sources = [torch.Generator().manual_seed(_key(seed, 3, n)) for n in positions]

    def normal(self) -> Tensor:
        """Standard normal noise of the truth's shape."""
        drawn = [torch.randn(self.like.shape[1:], generator=source) for source in self.sources]
        return torch.stack(drawn).to(self.like.device)

    def uniform(self) -> Tensor:
        """A number from [0, 1) for each sample."""
        return torch.cat([torch.rand(1, generator=source) for source in self.sources]).to(self.like.device)


def training_loss(
    network: nn.Module,
    image: Tensor,
    label: Tensor,
    num_classes: int,
    process: Process,
    config: Config,
    times: TimeSampler,
    positions: Sequence[int],
    precision: torch.dtype,
) -> StepLoss:
    """The loss of one batch with the configured strategy.

    All noise comes from (seed, position) of its sample, dropout from the first position.

    image: (B, channels, *spatial). label: (B, *spatial) class indices, or (B, num_classes, *spatial) of regions.
    """
    torch.manual_seed(_key(config.training.seed, 4, positions[0]))  # dropout
    x_start = mask_to_x(as_mask(label, image.new_empty(1, num_classes, *image.shape[2:])))
    draws = SeededDraws(x_start, config.training.seed, positions)
    index, weight = times.draw(draws.uniform().cpu())

    with autocast(image.device, precision):
        features = encode(network, image)  # with its gradient; the passes without one go on from it too

    def predict(mask: Tensor | None, index: Tensor, rows: Tensor | None = None) -> Tensor:
        with autocast(image.device, precision):
            output = denoise(network, rows_of(features, rows), mask, process.time(index).to(image.device))
        return output.float()

    strategy = STRATEGIES[config.diffusion.strategy]
    answer = strategy(predict, x_start, process, index, draws)
    losses = losses_of(answer, x_start, label, process, index, config)
    return StepLoss((weight.to(losses.device) * losses).mean(), index, losses.detach())


def losses_of(
    answer: Answer, x_start: Tensor, label: Tensor, process: Process, index: Tensor, config: Config
) -> Tensor:
    """The weighted sum of all configured terms, (B,)."""
    output, x_t = answer
    loss = total_loss(process.logits(output, x_t, index), label, config.loss, process.exclusive)
    if config.loss.mse:
        # the noise that belongs to the truth: after recycling it is not the one that was drawn
        noise = predict_noise(process.schedule, x_start, x_t, index)
        loss = loss + config.loss.mse * noise_mse(process, output, x_t, index, noise)
    if config.loss.vlb:
        loss = loss + config.loss.vlb * variational_bound(process, output, x_start, x_t, index)
    return loss


def _key(seed: int, *counters: int) -> int:
    """A number for torch's generators, which take 32 bits of it."""
    return int(np.random.SeedSequence([seed, *counters]).generate_state(1)[0])
