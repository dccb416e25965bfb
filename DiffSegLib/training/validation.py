"""How good the averaged weights are on the validation cases."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from DiffSegLib.config import Config
from DiffSegLib.data.patches import Prepared
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.training.checkpoint import State
from DiffSegLib.training.distributed import ALONE, Group

STEPS = 5


@torch.no_grad()
def validate(
    state: State,
    cases: Sequence[Prepared],
    num_classes: int,
    config: Config,
    device: torch.device,
    precision: torch.dtype,
    *,
    regions: Tensor | None = None,
    group: Group = ALONE,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Mean Dice of the averaged weights at the first and the last step, on the network's grid, seed 0.

    Each process takes its share of the cases. dice_by_class: None for a class that no case holds. check: called for
    every window; what it raises ends the validation, and the network has its own weights again.
    """
    steps = min(STEPS, config.diffusion.timesteps)
    scores = torch.zeros(len(cases), steps, num_classes - 1, dtype=torch.float64)
    own = {key: value.clone() for key, value in state.network.state_dict().items()}
    state.network.load_state_dict(state.ema)
    state.network.eval()
    try:
        for n in range(group.rank, len(cases), group.world):
            options = {"device": device, "precision": precision, "tick": lambda _: check()}
            for k, probability in enumerate(sampled(state.network, cases[n].image, num_classes, config, **options)):
                scores[n, k] = torch.tensor(class_dice(probability, cases[n].label, regions), dtype=torch.float64)
    finally:
        state.network.load_state_dict(own)
        state.network.train()
    scores = group.total(scores)
    by_class = [None if math.isnan(x) else round(x, 4) for x in scores[:, -1].nanmean(0).tolist()]
    first, last = (0.0 if math.isnan(x) else x for x in (scores[:, k].nanmean().item() for k in (0, -1)))
    return {"dice": last, "dice_first_step": first, "dice_by_class": by_class}


def sampled(network: nn.Module, image: Tensor, num_classes: int, config: Config, **options: Any) -> Iterator[Tensor]:
    """The probabilities (num_classes, *spatial) of each of STEPS steps; options: further ones of `Sampling`."""
    options["steps"] = min(STEPS, config.diffusion.timesteps)
    patch, factors = config.data.patch, config.network.factors
    return Sampling(network, num_classes, patch, factors, config.diffusion, **options).volumes(image)


def class_dice(probability: Tensor, label: Tensor, regions: Tensor | None = None) -> list[float]:
    """Dice of each foreground class; NaN where it is in neither.

    probability: (num_classes, *spatial). label: (*spatial) class indices. regions: (num_classes, labels + 1) where
    classes may overlap, as of `data.regions.membership`; each is found where its probability is above a half.
    """
    best = probability.argmax(0)
    out = []
    for n in range(1, len(probability)):
        found = best == n if regions is None else probability[n] > 0.5
        truth = label == n if regions is None else regions[n].bool()[label.long()]
        size = int(found.sum() + truth.sum())
        out.append(2.0 * int((found & truth).sum()) / size if size else math.nan)
    return out
