"""The rules between the values of a configuration, each with the sentence that says what is allowed."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from DiffSegLib.errors import InputError

if TYPE_CHECKING:
    from DiffSegLib.config import AugmentConfig, Config, DiffusionConfig, LossConfig, NetworkConfig, TrainingConfig

Rules = Iterator[tuple[Any, ...]]  # whether it holds, its sentence, and the keys without which nobody can tell yet
TWINS = ("dynunet", "segresnet")  # networks without a mask and a time


def implied(config: "Config") -> dict[str, tuple[Any, str]]:
    """What one choice asks of another: key -> a value that will do, and why."""
    network, diffusion, loss = config.network, config.diffusion, config.loss
    found: dict[str, tuple[Any, str]] = {}
    if network.name in TWINS and diffusion.strategy != "supervised":
        found["diffusion.strategy"] = "supervised", f"network.name {network.name} segments without diffusion"
    if diffusion.parametrisation == "epsilon" and not loss.mse:
        found["loss.mse"] = 0.1, "diffusion.parametrisation epsilon learns nothing at the noisy levels without it"
    if diffusion.variance.startswith("learned") and not loss.vlb:
        weight = round(0.001 * diffusion.train_steps, 6)
        why = f"diffusion.variance {diffusion.variance} is taught by it alone; 0.001 a noise level (I-DDPM 16)"
        found["loss.vlb"] = weight, why
    return found


def check(config: "Config", where: str, open_keys: Collection[str] = ()) -> None:
    """Raise InputError for the first rule that does not hold; rules on keys that are still open are left out."""
    _require(_rules(config), where, open_keys)


def _rules(config: "Config") -> Rules:
    network, data, diffusion = config.network, config.data, config.diffusion
    dims = len(data.patch)
    patch, strides, channels = "data.patch", "network.strides", "network.channels"
    yield dims in (2, 3), f"data.patch has {dims} axes; it must have 2 or 3"
    yield min(data.patch) >= 4, "data.patch must be at least 4 voxels along each axis"
    spaced = data.spacing is None or len(data.spacing) == dims
    yield spaced, f"data.spacing must have {dims} numbers, as data.patch", patch, "data.spacing"
    yield all(1e-5 <= mm <= 1e4 for mm in data.spacing or ()), "data.spacing must be from 0.00001 to 10000 mm"
    yield len(network.channels) > 1, "network.channels must have at least two entries, a width for each level"
    one_fewer = len(network.strides) == len(network.channels) - 1
    yield one_fewer, "network.strides must have one entry fewer than channels", strides, channels
    lengths = {len(axis) for axis in network.strides}
    yield lengths == {dims}, f"each of network.strides must have {dims} numbers", patch, strides
    yield len(lengths) == 1, "each of network.strides must have as many numbers as the others"
    widths = all(0 < n <= 4096 for n in network.channels)
    yield widths, "network.channels must be from 1 to 4096 (above is too large)"
    depth = len(network.channels) <= 10 and 0 < network.blocks <= 16
    yield depth, "network has at most 10 levels of 1 to 16 blocks"
    yield all(0 < n <= 16 for s in network.strides for n in s), "network.strides must be from 1 to 16"
    text = "data.patch must leave more than one voxel at the bottom of the network; enlarge it, or take fewer strides"
    yield _bottom(data.patch, network.strides) > 1, text, patch, strides
    heads = 0 < network.heads <= 4096 and 0 <= network.dropout < 1
    yield heads, "network.heads must be from 1 to 4096, dropout from 0 to below 1"
    small = max(data.patch) <= 4096 and diffusion.timesteps <= 100_000
    yield small, "data.patch or diffusion.timesteps is too large"
    yield network.channels[-1] % 4 == 0, "the last of network.channels must be a multiple of 4"
    steps = 2 <= diffusion.train_steps <= diffusion.timesteps
    yield steps, "diffusion.train_steps must be from 2 to timesteps"
    yield 0 <= diffusion.eta <= 1, "diffusion.eta must be from 0 to 1"
    chance = diffusion.self_conditioning_probability
    yield 0 <= chance <= 1, "diffusion.self_conditioning_probability must be from 0 to 1"
    plain = diffusion.parametrisation == "x_start" and diffusion.variance.startswith("fixed")
    text = "diffusion.strategy supervised needs parametrisation x_start and a fixed variance"
    yield diffusion.strategy != "supervised" or plain, text
    rising = 0 < diffusion.beta_start <= diffusion.beta_end < 1
    yield rising, "diffusion.beta_start, beta_end must rise within 0 to 1"
    yield from _training(config.training)
    yield from _loss(config.loss, diffusion)
    yield len(config.augment.flip) == dims, f"augment.flip must have {dims} values", patch, "augment.flip"
    yield from _ranges(config.augment)
    yield 0 <= data.foreground <= 1, "data.foreground must be from 0 to 1"
    yield from _network(network, diffusion)


def _bottom(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> int:
    """Voxels of a patch at the bottom of the network."""
    size = list(patch)
    for stride in strides:
        size = [-(-n // max(s, 1)) for n, s in zip(size, stride, strict=False)]  # wrong ones: another rule's concern
    return math.prod(size)


def check_network(network: "NetworkConfig", diffusion: "DiffusionConfig") -> None:
    """Raise InputError where a network is asked for what it cannot do."""
    _require(_network(network, diffusion), "configuration", ())


def _network(network: "NetworkConfig", diffusion: "DiffusionConfig") -> Rules:
    name, first = f"network.name {network.name}", network.channels[0]
    channels, strides = "network.channels", "network.strides"
    yield network.name == "unet" or network.time == "after_norm", f"{name} needs network.time after_norm"
    if network.name in TWINS:
        alone = f"{name} segments without diffusion: set diffusion.strategy supervised, or network.name unet or cached"
        yield diffusion.strategy == "supervised", alone, "diffusion.strategy"
        yield not network.checkpointing, f"{name} has no checkpointing; network.name unet and cached have"
    if network.name == "dynunet":
        few = f"{name} needs at least 3 network.channels and network.strides of at most 4"
        yield len(network.channels) > 2, few, channels
        yield all(n <= 4 for stride in network.strides for n in stride), few, strides
    if network.name == "segresnet":
        halved = all(n == 2 for stride in network.strides for n in stride)
        yield halved, f"{name} needs network.strides of 2 only; network.name dynunet takes others", strides
        doubled = all(n == first * 2**level for level, n in enumerate(network.channels))
        widths = f"{name} needs a multiple of 8 in network.channels, doubled each level"
        yield doubled and first % 8 == 0, widths, channels


def _require(rules: Rules, where: str, open_keys: Collection[str]) -> None:
    for holds, sentence, *keys in rules:
        if not holds and set(keys).isdisjoint(open_keys):
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
    most = {"batch": 4096, "accumulate": 4096, "iterations": 10**9, "validations": 10**6}  # above is a slip of the hand
    for key, limit in most.items():
        yield 1 <= getattr(training, key) <= limit, f"training.{key} must be from 1 to {limit}"
    yield training.patience is None or training.patience > 0, "training.patience must be above 0, or null"
    yield 0 <= training.seed < 2**32, "training.seed must be from 0 to 4294967295"
    timed = training.minutes is None or 0 < training.minutes <= 10**7
    yield timed, "training.minutes must be from above 0 to 10000000"
    yield 0 < training.learning_rate <= 1, "training.learning_rate must be above 0, at most 1"
    for key in ("learning_rate_start", "learning_rate_end"):
        text = f"training.{key} must be from 0 to training.learning_rate, {training.learning_rate:g}; set it as well"
        yield 0 <= getattr(training, key) <= training.learning_rate, text
    yield 0 <= training.ema < 1, "training.ema must be from 0 to below 1"
    yield training.clip > 0 and training.weight_decay >= 0, "training.clip must be above 0, weight_decay not below 0"


def _loss(loss: "LossConfig", diffusion: "DiffusionConfig") -> Rules:
    weights = (loss.dice, loss.cross_entropy, loss.focal, loss.mse, loss.vlb)
    yield min(*weights, loss.focal_gamma) >= 0, "no weight of loss may be below 0"
    yield 0 <= loss.soft_borders <= 5, "loss.soft_borders must be from 0 to 5 voxels"
    yield max(weights) > 0, "one weight of loss must be above 0"
    alone = diffusion.strategy != "supervised" or not (loss.mse or loss.vlb)
    yield alone, "loss.mse and loss.vlb must be 0 with diffusion.strategy supervised: there is no noise"
    levels = diffusion.parametrisation != "epsilon" or loss.mse > 0
    text = "diffusion.parametrisation epsilon needs loss.mse above 0, e.g. 0.1: no other term reaches the noisy levels"
    yield levels, text, "loss.mse"
    taught = not diffusion.variance.startswith("learned") or loss.vlb > 0
    example = f"e.g. {0.001 * diffusion.train_steps:g}"
    text = f"diffusion.variance {diffusion.variance} is taught by loss.vlb alone; set it above 0, {example}"
    yield taught, text, "loss.vlb"
