"""The learning rate over a training."""

import math

from DiffSegLib.config import Config


def learning_rate(fraction: float, config: Config) -> float:
    """Linear warm-up, a cosine from `learning_rate` to `learning_rate_end` at `decay`, then flat; fraction 0..1."""
    settings = config.training
    if fraction < settings.warmup:
        rise = (settings.learning_rate - settings.learning_rate_start) * fraction / settings.warmup
        return settings.learning_rate_start + rise
    angle = math.pi * min((fraction - settings.warmup) / (settings.decay - settings.warmup), 1.0)
    span = settings.learning_rate - settings.learning_rate_end
    return settings.learning_rate_end + 0.5 * span * (1.0 + math.cos(angle))
