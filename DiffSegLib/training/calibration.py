"""The temperature that makes a model's probabilities say how often it is right (Guo et al. 2017).

Networks that are trained on overlap are too sure of themselves. One number, fitted on the validation cases, mends most
of it; masks do not change, the uncertainty does.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from DiffSegLib.config import Config
from DiffSegLib.data.patches import Prepared
from DiffSegLib.inference.uncertainty import tempered
from DiffSegLib.network.precision import pick_precision
from DiffSegLib.training.validation import sampled

TEMPERATURES = np.geomspace(0.5, 5.0, 61)  # 4 % from one to the next
MARGIN = 5  # voxels around the structures: far away everything is certain, and would outvote what matters
MOST = 100_000  # voxels of a case that are looked at


@torch.no_grad()
def fit_temperature(
    network: nn.Module,
    cases: Sequence[Prepared],
    num_classes: int,
    config: Config,
    device: torch.device,
    regions: Tensor | None = None,
    check: Callable[[], None] = lambda: None,
) -> float:
    """Of TEMPERATURES the one with the least negative log likelihood near the structures; 1 where there are none.

    network: with its final weights. regions, check: as of `validation.validate`.
    """
    network.eval()
    if regions is None and config.diffusion.classes == "overlapping":
        regions = torch.eye(num_classes)  # each label is a region of its own
    losses, precision = np.zeros(len(TEMPERATURES)), pick_precision("auto", device)
    for case in cases:
        options = {"device": device, "precision": precision, "every_step": False, "tick": lambda _: check()}
        *_, probability = sampled(network, case.image, num_classes, config, **options)
        near = _near(case.label > 0)
        step = max(1, int(near.sum()) // MOST)
        p, truth = probability[:, near][:, ::step], case.label[near][::step].long()
        if len(truth):
            losses += [_loss(tempered(p, t, regions is None), truth, regions) for t in TEMPERATURES.tolist()]
    return round(float(TEMPERATURES[losses.argmin()]), 3) if losses.any() else 1.0


def _near(inside: Tensor) -> Tensor:
    pool = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}[inside.ndim]
    return pool(inside[None, None].float(), 2 * MARGIN + 1, stride=1, padding=MARGIN)[0, 0] > 0


def _loss(p: Tensor, truth: Tensor, regions: Tensor | None) -> float:
    """Mean negative log likelihood of (C, N) probabilities; truth: (N,) class indices, or values that regions hold."""
    if regions is None:
        return float(-p.gather(0, truth[None]).clamp_min(1e-6).log().mean())
    held = regions[1:, truth]
    return float(torch.nn.functional.binary_cross_entropy(p[1:].clamp(1e-6, 1 - 1e-6), held.to(p)))
