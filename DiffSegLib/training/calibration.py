"""What is fitted to the validation cases when a training has ended: how much to smooth, and the temperature.

Smoothing: networks leave single voxels and frayed borders, the more the shorter they were trained. Temperature (Guo et
al. 2017): networks that are trained on overlap are too sure of themselves; one number mends most of it. Masks do not
change by it, the uncertainty does.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from DiffSegLib.config import Config
from DiffSegLib.data.patches import Prepared
from DiffSegLib.data.smoothing import smoothed
from DiffSegLib.inference.uncertainty import tempered
from DiffSegLib.network.precision import pick_precision
from DiffSegLib.training.validation import class_dice, sampled

SMOOTHINGS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2)  # voxels
TEMPERATURES = np.geomspace(0.5, 5.0, 61)  # 4 % from one to the next
MARGIN = 5  # voxels around the structures: far away everything is certain, and would outvote what matters
MOST = 100_000  # voxels of a case that are looked at


@dataclass(frozen=True, eq=False)
class Answers:
    """The last step's probabilities of a network with its final weights for each of `cases`, each time they are asked.

    regions, check: as of `validation.validate`.
    """

    network: nn.Module
    cases: Sequence[Prepared]
    num_classes: int
    config: Config
    device: torch.device
    regions: Tensor | None = None
    check: Callable[[], None] = lambda: None

    @property
    def membership(self) -> Tensor | None:
        """The labels of each class that may overlap others; None for exclusive classes."""
        if self.regions is None and self.config.diffusion.classes == "overlapping":
            return torch.eye(self.num_classes)  # each label is a region of its own
        return self.regions

    @torch.no_grad()
    def each(self, smoothing: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Probabilities (num_classes, *spatial) and label (*spatial)."""
        self.network.eval()
        precision = pick_precision("auto", self.device)
        options: dict[str, object] = {"device": self.device, "precision": precision, "every_step": False}
        options |= {"smoothing": smoothing, "tick": lambda _: self.check()}
        for case in self.cases:
            found = sampled(self.network, case.image, self.num_classes, self.config, **options)
            *_, probability = found
            yield probability, case.label


def fit_smoothing(answers: Answers) -> float:
    """Of SMOOTHINGS the one with the highest mean Dice, the least of equals; 0 where no case holds a structure."""
    scores = torch.tensor(
        [
            [class_dice(smoothed(probability, sigma), label, answers.membership) for sigma in SMOOTHINGS]
            for probability, label in answers.each(0.0)
        ]
    )
    means = scores.nanmean((0, 2)).nan_to_num() if len(scores) else torch.zeros(len(SMOOTHINGS))
    return SMOOTHINGS[int(means.argmax())]


def fit_temperature(answers: Answers, smoothing: float = 0.0) -> float:
    """Of TEMPERATURES the one with the least negative log likelihood near the structures; 1 where there are none."""
    losses, regions = np.zeros(len(TEMPERATURES)), answers.membership
    for probability, label in answers.each(smoothing):
        near = _near(label > 0)
        step = max(1, int(near.sum()) // MOST)
        p, truth = probability[:, near][:, ::step], label[near][::step].long()
        if len(truth):
            losses += [_loss(tempered(p, t, regions is None), truth, regions) for t in TEMPERATURES.tolist()]
    return round(float(TEMPERATURES[losses.argmin()]), 3) if losses.any() else 1.0


def at_an_end(smoothing: float, temperature: float) -> str:
    """A sentence where a fitted number is the last of those that were tried, so that the best may lie beyond."""
    ends = {round(float(t), 3) for t in (TEMPERATURES[0], TEMPERATURES[-1])}
    found = [f"smoothing of {smoothing:g} voxels"] if smoothing == SMOOTHINGS[-1] else []
    found += [f"temperature of {temperature:g}"] if temperature in ends else []
    text = f"The fitted {' and '.join(found)} is at the end of what was tried; train longer, or validate on more cases."
    return text if found else ""


def _near(inside: Tensor) -> Tensor:
    pool = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}[inside.ndim]
    return pool(inside[None, None].float(), 2 * MARGIN + 1, stride=1, padding=MARGIN)[0, 0] > 0


def _loss(p: Tensor, truth: Tensor, regions: Tensor | None) -> float:
    """Mean negative log likelihood of (C, N) probabilities; truth: (N,) class indices, or values that regions hold."""
    if regions is None:
        return float(-p.gather(0, truth[None]).clamp_min(1e-6).log().mean())
    held = regions[1:, truth]
    return float(torch.nn.functional.binary_cross_entropy(p[1:].clamp(1e-6, 1 - 1e-6), held.to(p)))
