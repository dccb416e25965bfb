"""The rules between the values of a configuration, each with the sentence that says what is allowed."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from DiffSegLib.errors import InputError

if TYPE_CHECKING:
    from DiffSegLib.config import AugmentConfig, Config, DiffusionConfig, LossConfig, NetworkConfig, TrainingConfig

Rules = Iterator[tuple[bool, str]]


def check(config: "Config", where: str) -> None:
    """Raise InputError for the first rule that does not hold."""
    network, data, training, diffusion = config.network, config.data, config.training, config.diffusion
    dims = len(data.patch)
    rules = [
        (dims in (2, 3), f"data.patch has {dims} axes; it must have 2 or 3"),
        (min(data.patch) >= 4, "data.patch must be at least 4 voxels along each axis"),
        (data.spacing is None or len(data.spacing) == dims, f"data.spacing must have {dims} numbers, as data.patch"),
        (data.spacing is None or min(data.spacing) > 0, "data.spacing must be above 0"),
        (len(network.strides) == len(network.channels) - 1, "network.strides must have one entry fewer than channels"),
        (all(len(s) == dims for s in network.strides), f"each of network.strides must have {dims} numbers"),
        (all(0 < n <= 4096 for n in network.channels), "network.channels must be from 1 to 4096 (above is too large)"),
        (len(network.channels) <= 10 and 0 < network.blocks <= 16, "network has at most 10 levels of 1 to 16 blocks"),
        (all(0 < n <= 16 for s in network.strides for n in s), "network.strides must be from 1 to 16"),
        (
            _bottom(data.patch, network.strides) > 1,
            "data.patch must leave more than one voxel at the bottom of the network; enlarge it, or take fewer strides",
        ),
        (network.heads > 0 and 0 <= network.dropout < 1, "network.heads must be above 0, dropout from 0 to below 1"),
        (max(data.patch) <= 4096 and diffusion.timesteps <= 100_000, "data.patch or diffusion.timesteps is too large"),
        (network.channels[-1] % 4 == 0, "the last of network.channels must be a multiple of 4"),
        (2 <= diffusion.train_steps <= diffusion.timesteps, "diffusion.train_steps must be from 2 to timesteps"),
        (0 <= diffusion.eta <= 1, "diffusion.eta must be from 0 to 1"),
        (
            0 <= diffusion.self_conditioning_probability <= 1,
            "diffusion.self_conditioning_probability must be from 0 to 1",
        ),
        (
            diffusion.strategy != "supervised"
            or (diffusion.parametrisation == "x_start" and diffusion.variance.startswith("fixed")),
            "diffusion.strategy supervised needs parametrisation x_start and a fixed variance",
        ),
        (0 < diffusion.beta_start <= diffusion.beta_end < 1, "diffusion.beta_start, beta_end must rise within 0 to 1"),
        *_training(training),
        *_loss(config.loss, diffusion),
        (len(config.augment.flip) == dims, f"augment.flip must have {dims} values"),
        *_ranges(config.augment),
        (0 <= data.foreground <= 1, "data.foreground must be from 0 to 1"),
    ]
    _require(rules, where)
    check_network(network, diffusion, where)


def _bottom(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> int:
    """Voxels of a patch at the bottom of the network."""
    size = list(patch)
    for stride in strides:
        size = [-(-n // s) for n, s in zip(size, stride, strict=False)]  # of other dimensions: another rule's concern
    return math.prod(size)


def check_network(network: "NetworkConfig", diffusion: "DiffusionConfig", where: str = "configuration") -> None:
    """Raise InputError where a network is asked for what it cannot do."""
    name, first = f"network.name {network.name}", network.channels[0]
    rules = [(network.name == "unet" or network.time == "after_norm", f"{name} needs network.time after_norm")]
    if network.name in ("dynunet", "segresnet"):
        alone = f"{name} segments without diffusion: set diffusion.strategy supervised, or network.name unet or cached"
        rules += [(diffusion.strategy == "supervised", alone)]
        rules += [(not network.checkpointing, f"{name} has no checkpointing; network.name unet and cached have")]
    if network.name == "dynunet":
        short = all(n <= 4 for stride in network.strides for n in stride)
        sizes = f"{name} needs at least 3 network.channels and network.strides of at most 4"
        rules += [(len(network.channels) > 2 and short, sizes)]
    if network.name == "segresnet":
        halved = all(n == 2 for stride in network.strides for n in stride)
        rules += [(halved, f"{name} needs network.strides of 2 only; network.name dynunet takes others")]
        doubled = all(n == first * 2**level for level, n in enumerate(network.channels))
        rules += [(doubled and first % 8 == 0, f"{name} needs a multiple of 8 in network.channels, doubled each level")]
    _require(rules, where)


def _require(rules: list[tuple[bool, str]], where: str) -> None:
    for holds, sentence in rules:
        if not holds:
            raise InputError(f"{where}: {sentence}.")


def _ranges(augment: "AugmentConfig") -> Rules:
    """Rules for the random changes: chances from 0 to 1, and no range that turns an image inside out."""
    bounds = {"rotation": (0.0, 180.0), "scale": (0.0, 0.7), "contrast": (0.0, 1.0), "low_resolution": (1.0, 100.0)}
    for key, value in vars(augment).items():
        if key != "flip":
            low, high = bounds.get(key, (0.0, 1.0 if key.endswith("_probability") else 100.0))
            yield low <= value <= high, f"augment.{key} must be from {low:g} to {high:g}"


def _training(training: "TrainingConfig") -> Rules:
    yield 0 <= training.warmup < training.decay <= 1, "training.warmup must be below decay, both from 0 to 1"
    counts = min(training.batch, training.accumulate, training.iterations, training.validations)
    yield counts > 0, "training.batch, accumulate, iterations and validations must be above 0"
    yield training.patience is None or training.patience > 0, "training.patience must be above 0, or null"
    yield 0 <= training.seed < 2**32, "training.seed must be from 0 to 4294967295"
    yield training.minutes is None or training.minutes > 0, "training.minutes must be above 0"
    yield 0 < training.learning_rate <= 1, "training.learning_rate must be above 0, at most 1"
    ends = (training.learning_rate_start, training.learning_rate_end)
    yield all(0 <= x <= training.learning_rate for x in ends), "training.learning_rate must be its own highest value"
    yield 0 <= training.ema < 1, "training.ema must be from 0 to below 1"
    yield training.clip > 0 and training.weight_decay >= 0, "training.clip must be above 0, weight_decay not below 0"


def _loss(loss: "LossConfig", diffusion: "DiffusionConfig") -> Rules:
    weights = (loss.dice, loss.cross_entropy, loss.focal, loss.mse, loss.vlb)
    yield min(*weights, loss.focal_gamma) >= 0, "no weight of loss may be below 0"
    yield max(weights) > 0, "one weight of loss must be above 0"
    alone = diffusion.strategy != "supervised" or not (loss.mse or loss.vlb)
    yield alone, "loss.mse and loss.vlb must be 0 with diffusion.strategy supervised: there is no noise"
    levels = diffusion.parametrisation != "epsilon" or loss.mse > 0
    yield levels, "diffusion.parametrisation epsilon needs loss.mse above 0: other terms do not reach the noisy levels"
    taught = diffusion.variance not in ("learned", "learned_range") or loss.vlb > 0
    yield taught, f"diffusion.variance {diffusion.variance} is taught by loss.vlb alone; set it above 0"
