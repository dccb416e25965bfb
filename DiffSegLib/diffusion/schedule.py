"""Variance schedules and their exact respacing to K of T steps.

Notation as in Ho et al. 2020 (DDPM): beta_t, alpha_t = 1 - beta_t, alphas_cumprod_t = prod of alpha up to t. Index 0 is
the nearly clean end. Everything is float64 numpy: it is tiny, and 1 - alphas_cumprod loses digits in float32.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from DiffSegLib.errors import InputError


def make_betas(name: str, timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> np.ndarray:
    """The betas, shape (timesteps,).

    `linear`, `quadratic` (evenly spaced in sqrt), `warmup10`, `warmup50` (quadratic ramp over the first 10 or 50 %,
    then constant), `cosine` (Nichol & Dhariwal 2021, eq. 17) and `cosine_imgx` (the curve that ImgX-DiffSeg calls
    cosine: 1 - f(t) scaled into [beta_start, beta_end]).

    >>> float(make_betas("linear", 1001)[-1])
    0.02
    """
    if timesteps < 1:
        raise InputError(f"a schedule needs at least one step, not {timesteps}.")
    if name == "linear":
        return np.linspace(beta_start, beta_end, timesteps)
    if name == "quadratic":
        return np.linspace(beta_start**0.5, beta_end**0.5, timesteps) ** 2
    if name in ("warmup10", "warmup50"):
        ramp = max(timesteps // (10 if name == "warmup10" else 2), 1)
        betas = np.full(timesteps, beta_end)
        betas[:ramp] = np.linspace(beta_start**0.5, beta_end**0.5, ramp) ** 2
        return betas
    if name == "cosine":
        edges = _cosine(np.arange(timesteps + 1) / timesteps)
        return np.minimum(1.0 - edges[1:] / edges[:-1], 0.999)
    if name == "cosine_imgx":
        curve = 1.0 - _cosine(np.arange(timesteps) / max(timesteps - 1, 1))
        curve[0] = 0.0
        return curve * (beta_end - beta_start) + beta_start
    names = "linear, quadratic, cosine, cosine_imgx, warmup10, warmup50"
    raise InputError(f"unknown schedule {name!r}; allowed: {names}.")


def _cosine(u: np.ndarray) -> np.ndarray:
    return np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2


@dataclass(frozen=True, eq=False)
class Schedule:
    """A (respaced) schedule of K noise levels.

    alphas_cumprod: (K,), falling. indices: (K,), each level's index among the T original ones. timesteps: T.
    """

    alphas_cumprod: np.ndarray
    indices: np.ndarray
    timesteps: int

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def alphas_cumprod_prev(self) -> np.ndarray:
        """alphas_cumprod of the next cleaner level; 1 at index 0."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @property
    def betas(self) -> np.ndarray:
        """Recomputed from the kept alphas_cumprod (Nichol & Dhariwal 2021, eq. 19)."""
        return 1.0 - self.alphas_cumprod / self.alphas_cumprod_prev

    @property
    def time(self) -> np.ndarray:
        """(K,) what the network is told: (original index + 1) / T, so a noise level has one name for every K."""
        return (self.indices + 1) / self.timesteps

    @property
    def time_of_index(self) -> np.ndarray:
        """(K,) the reference's rule (index + 1) / K, which names the same noise differently for every K."""
        return np.arange(1, len(self) + 1) / len(self)

    @property
    def posterior_variance(self) -> np.ndarray:
        """Variance of q(x_{t-1} | x_t, x_0) (DDPM eq. 7)."""
        return self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @property
    def posterior_log_variance(self) -> np.ndarray:
        """Log of the posterior variance; index 0, where it is 0, takes the value of index 1 (or beta_0 of one step)."""
        variance = self.posterior_variance
        return np.log(np.append(variance[1] if len(self) > 1 else self.betas[0], variance[1:]))

    @property
    def posterior_mean_coef_x_start(self) -> np.ndarray:
        """Coefficient of x_0 in the posterior mean (DDPM eq. 7)."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @property
    def posterior_mean_coef_x_t(self) -> np.ndarray:
        """Coefficient of x_t in the posterior mean (DDPM eq. 7)."""
        return np.sqrt(1.0 - self.betas) * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)


@lru_cache(maxsize=32)
def make_schedule(name: str, timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """The full schedule of T = `timesteps` levels."""
    betas = make_betas(name, timesteps, beta_start, beta_end)
    return Schedule(np.cumprod(1.0 - betas), np.arange(timesteps), timesteps)


def respace(schedule: Schedule, steps: int) -> Schedule:
    """Keep `steps` of the levels, both ends included, evenly spaced and rounded; 1 step keeps the noisiest.

    Where T - 1 is a multiple of steps - 1 this is the reference's rule exactly.

    >>> respace(make_schedule("linear", 1001), 5).indices.tolist()
    [0, 250, 500, 750, 1000]

    Raises InputError unless 1 <= steps <= len(schedule).
    """
    total = len(schedule)
    if not 1 <= steps <= total:
        raise InputError(f"steps is {steps}; it must be from 1 to {total}.")
    last = total - 1
    keep = np.array([last]) if steps == 1 else np.floor(np.arange(steps) * last / (steps - 1) + 0.5).astype(int)
    return Schedule(schedule.alphas_cumprod[keep], schedule.indices[keep], schedule.timesteps)
