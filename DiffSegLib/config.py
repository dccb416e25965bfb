"""The configuration of a training: one typed, validated schema for command line, window and file.

`config.json` in a run folder is this schema as JSON, frozen when the training starts. All sizes are in the order of the
tensor's spatial axes: for a 3D image (z, y, x), that is inferior-superior, anterior-posterior, right-left.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from DiffSegLib.config_idle import refuse_idle
from DiffSegLib.config_rules import check, implied
from DiffSegLib.errors import InputError
from DiffSegLib.presets import PRESETS
from DiffSegLib.schema import build, read_json

SCHEMA_VERSION = 1

# What the fingerprint of the data may fill in, where neither the preset nor a person has decided.
PROPOSED = (
    "data.spacing",
    "data.patch",
    "data.normalisation",
    "network.channels",
    "network.strides",
    "training.batch",
    "augment.flip",
)
# With what may follow from another choice (config_rules.implied).
OPEN = (*PROPOSED, "diffusion.strategy", "loss.mse", "loss.vlb")


StrategyKey = Literal[
    "supervised", "standard", "recycling", "recycling_next", "self_conditioning", "self_conditioning_next", "unrolled"
]


@dataclass(frozen=True)
class DataConfig:
    """How an image becomes a tensor: `spacing` in mm (None keeps each image's own), `patch` in voxels."""

    spacing: tuple[float, ...] | None = None
    patch: tuple[int, ...] = (64, 64, 64)
    normalisation: Literal["zscore", "percentile", "ct"] = "zscore"
    foreground: float = 0.33


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training patch, each with its chance (0..1) and its range.

    rotation: degrees. scale, shift: fractions of the patch. contrast, brightness: of the factor and the offset of
    normalised values. gamma: of the exponent's logarithm. blur: largest sigma, and low_resolution: largest factor, both
    in edges of the finest voxel side, acting over the same mm along every axis. noise: largest sigma.
    """

    affine_probability: float = 0.8
    rotation: float = 15.0
    scale: float = 0.15
    shift: float = 0.06
    flip: tuple[bool, ...] = (False, False, False)
    contrast_probability: float = 0.25
    contrast: float = 0.25
    brightness: float = 0.2
    gamma_probability: float = 0.25
    gamma: float = 0.3
    blur_probability: float = 0.2
    blur: float = 1.0
    low_resolution_probability: float = 0.25
    low_resolution: float = 2.0
    noise_probability: float = 0.25
    noise: float = 0.1


@dataclass(frozen=True)
class NetworkConfig:
    """The network and its size (docs/networks.md); `strides[i]` leads from level i to level i + 1.

    attention: a transformer layer at the bottom. time: `before_norm` is the reference's place, where instance norm
    removes it again. checkpointing: less memory in training for a fifth to a third more time. For MONAI's `dynunet` and
    `segresnet` channels, strides and dropout act, for `segresnet` blocks too; the rest is their own.
    """

    name: Literal["unet", "cached", "dynunet", "segresnet"] = "unet"
    channels: tuple[int, ...] = (32, 64, 128, 256)
    strides: tuple[tuple[int, ...], ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    blocks: int = 2
    heads: int = 8
    attention: bool = True
    activation: Literal["gelu", "gelu_tanh", "silu"] = "gelu"
    dropout: float = 0.0
    time: Literal["after_norm", "before_norm"] = "after_norm"
    checkpointing: bool = False

    @property
    def factors(self) -> tuple[int, ...]:
        """Total stride per axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


@dataclass(frozen=True)
class DiffusionConfig:
    """Schedule, parametrisation and strategy; `train_steps` of the `timesteps` noise levels are used in training.

    fusion: the answer of a step is its own prediction (`last`) or the mean of those so far (`mean`), as in the
    step-uncertainty fusion of Diff-UNet; the sampler goes on from its own prediction either way.

    Keys that only reproduce the reference (docs/method.md): time `index`, recycling_last false, importance_weight and
    self_conditioning_input `reference`, clip_x_start false.
    """

    schedule: Literal["linear", "quadratic", "cosine", "cosine_imgx", "warmup10", "warmup50"] = "linear"
    timesteps: int = 1001
    train_steps: int = 5
    beta_start: float = 1e-4
    beta_end: float = 0.02
    strategy: StrategyKey = "recycling"
    time: Literal["original", "index"] = "original"
    parametrisation: Literal["x_start", "epsilon", "v"] = "x_start"
    classes: Literal["exclusive", "overlapping"] = "exclusive"
    variance: Literal["fixed_small", "fixed_large", "learned", "learned_range"] = "fixed_small"
    eta: float = 0.0
    clip_x_start: bool = True
    reverse_step: bool = False
    recycling_last: bool = True
    self_conditioning_probability: float = 0.5
    self_conditioning_input: Literal["x_t", "reference"] = "x_t"
    time_sampling: Literal["uniform", "loss_aware"] = "uniform"
    importance_weight: Literal["unbiased", "reference"] = "unbiased"
    fusion: Literal["last", "mean"] = "last"


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; `mse` is the noise's squared error, `vlb` the variational bound in bits.

    soft_borders: voxels by which cross-entropy takes the truth's borders for uncertain (a Gaussian's sigma); 0: not.
    """

    dice: float = 1.0
    cross_entropy: float = 1.0
    soft_borders: float = 0.0
    focal: float = 0.0
    focal_gamma: float = 2.0
    mse: float = 0.0
    vlb: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """The training itself; with `minutes` the budget is wall time, otherwise `iterations`.

    batch: samples of one pass, in each process. accumulate: passes whose mean gradient makes one step, for batches that
    do not fit into memory. warmup, decay: fractions of the budget at which the learning rate is highest, and at which
    it has reached its end. validations: over the whole budget. patience: validations without a better Dice after which
    the training stops; None goes on to the end of the budget. smoothing: whether the model smooths its probabilities by
    as much as makes the best masks of the validation cases. deterministic: on a GPU, too, the same weights to the bit
    each time, for some of its speed; only with `iterations`, as a clock never counts the same steps twice.
    """

    iterations: int = 5000
    minutes: float | None = None
    batch: int = 4
    accumulate: int = 1
    learning_rate: float = 1e-3
    learning_rate_start: float = 1e-5
    learning_rate_end: float = 1e-5
    warmup: float = 0.02
    decay: float = 1.0
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.999
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    validations: int = 10
    patience: int | None = None
    smoothing: bool = True
    deterministic: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Config:
    """Everything a training decides, in one readable file."""

    version: int = SCHEMA_VERSION
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


def from_json(data: Mapping[str, Any], where: str = "configuration", open_keys: Collection[str] = ()) -> Config:
    """A validated Config from a dictionary; missing keys take their defaults.

    open_keys: are still to be proposed, so rules between them and other values are left unchecked.

    Raises InputError that names the key, its value and what is allowed.
    """
    config: Config = build(Config, data, where)
    if config.version != SCHEMA_VERSION:
        raise InputError(f"{where}: version is {config.version}; this DiffSeg reads version {SCHEMA_VERSION}.")
    check(config, where, open_keys)
    return config


def load(path: Path) -> Config:
    """Read a `config.json`."""
    return from_json(read_json(path), str(path))


def choose(name: str, source: Path | Mapping[str, Any] | None, assignments: list[str]) -> tuple[Config, frozenset[str]]:
    """Where a training starts: a file, or what would stand in one, or else a preset; then `section.key=value`.

    Also returns which keys of OPEN are to be proposed: of PROPOSED those that neither the preset nor a person has
    decided, and what a choice implies and nobody has written. Raises InputError, too, for a value that somebody wrote
    and that does nothing (config_idle). In a whole configuration, as a run keeps it, that is what differs from the
    nearest preset, but for the iterations, which stand there whatever the budget is.
    """
    where = str(source) if isinstance(source, Path) else "configuration"
    file = read_json(source) if isinstance(source, Path) else source or {}
    start = (preset(name) if source is None else build(Config, file, where)).to_json()
    values, defaults = _flat(start), _flat(Config().to_json())
    written, assigned = list(_flat(file)), list(_flat(_assign({}, assignments)))
    changed = {key for key in PROPOSED if values[key] != defaults[key]} - {"network.channels"}
    open_keys = {*OPEN} - changed - {*written, *assigned}
    together = where if not assignments else "the options" if source is None else f"{where} with the options"
    config = from_json(_assign(start, assignments), together, open_keys)
    open_keys &= {*PROPOSED, *implied(config)}
    check(config, together, open_keys)
    if file.keys() == start.keys():
        presets = [_flat(preset(each).to_json()) for each in PRESETS]
        nearest = min(presets, key=lambda one: sum(one[key] != values[key] for key in values))
        written = [key for key in written if values[key] != nearest[key] and key != "training.iterations"]
    values = _flat(config.to_json()) | {key: value for key, (value, _) in implied(config).items() if key in open_keys}
    for keys, whose in ((assigned, "--set"), (written, where)):
        refuse_idle(values, [key for key in keys if values[key] != defaults[key]], whose)
    return config, frozenset(open_keys)


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """section.key -> value."""
    sections = ((name, body) for name, body in data.items() if isinstance(body, Mapping))
    return {f"{name}.{key}": value for name, body in sections for key, value in body.items()}


def to_text(data: Mapping[str, Any]) -> str:
    """JSON for people: indented, with each list of numbers on one line."""
    text = json.dumps(data, indent=2)
    return re.sub(r"\[[\s\d.,eE+\-truefalsn]*\]", lambda found: " ".join(found.group().split()), text)


def override(config: Config, assignments: list[str]) -> Config:
    """Apply `section.key=value` assignments; values are JSON, or plain text for names.

    >>> override(Config(), ["training.batch=2"]).training.batch
    2
    """
    return from_json(_assign(config.to_json(), assignments), "--set")


def _assign(data: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """`data` with each `section.key=value` put in."""
    sections = [key for key, value in Config().to_json().items() if isinstance(value, dict)]
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        section, dot, name = key.strip().partition(".")
        if not equals or not dot:
            raise InputError(f"--set {assignment!r}: write section.key=value, e.g. training.batch=2.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if section not in sections:
            raise InputError(f"--set {assignment!r}: unknown section {section!r}; allowed: {', '.join(sections)}.")
        data = {**data, section: {**(data.get(section) or {}), name: value}}
    return data


def preset(name: str) -> Config:
    """A named starting point; the data's fingerprint fills in spacing and patch where they are not set."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; allowed: {', '.join(PRESETS)}.")
    return from_json(PRESETS[name], f"preset {name}")
