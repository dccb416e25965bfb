"""Everything that the study measures of one model on the validation cases."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata

import study
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import read, read_label
from DiffSegLib.data.native import NativeMap, best_class
from DiffSegLib.data.preprocess import to_model_space
from DiffSegLib.data.splits import split
from DiffSegLib.evaluation.metrics import score
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.models import store

STEPS = 5
VALUES = (1, 2)  # anterior, posterior
CURVE = (1, 2, 3, 4, 5, 6, 8, 10)  # numbers of steps
MARGIN = 5  # voxels around the structures within which calibration is measured: far background is always right
BINS = 15


def measure(model_file: Path, data: Path, run: Path, curve_too: bool = False) -> dict[str, Any]:
    """Scores per case and structure, calibration, and cost; the probabilities go to `run` for ensembles.

    See `score_all` for the scores, which are of five DDIM steps with seed 0. dice_by_step: mean after each of them.
    dice_by_steps: mean after the last of 1 to 10 steps (`curve_too`).
    """
    model = store.load(model_file)
    model.network.eval()
    by_step, ddpm, curve, kept = [], [], {k: [] for k in CURVE}, {}
    cpu = 0.0
    for case in validation_cases(data):
        began = time.process_time()
        probabilities = list(sample(model, case.image, STEPS, "ddim"))
        cpu += time.process_time() - began
        by_step.append([case.dice(p) for p in probabilities])
        kept[case.name] = probabilities[-1].numpy().astype(np.float16)
        ddpm.append(case.dice(list(sample(model, case.image, STEPS, "ddpm"))[-1]))
        for k in CURVE if curve_too else ():
            curve[k].append(case.dice(list(sample(model, case.image, k, "ddim"))[-1]))
    np.savez_compressed(run / "probabilities.npz", **kept)
    return score_all(kept, data) | {
        "dice_by_step": [round(float(x), 5) for x in np.mean(by_step, axis=(0, 2))],
        "dice_ddpm": round(float(np.mean(ddpm)), 5),
        "dice_by_steps": {str(k): round(float(np.mean(v)), 5) for k, v in curve.items() if v},
        "cpu_seconds_per_case": round(cpu / len(kept), 4),
        "parameters": sum(p.numel() for p in model.network.parameters()),
    }


def score_all(probabilities: Mapping[str, np.ndarray], data: Path) -> dict[str, Any]:
    """Scores of probabilities (classes, *spatial) by case name, on the network's grid.

    dice, hd95_mm, nsd: (cases, labels) on the native grid. ece, auroc: one for each case, see `calibration`.
    """
    tables: dict[str, list[Any]] = {"cases": [], "dice": [], "hd95_mm": [], "nsd": [], "ece": [], "auroc": []}
    for case in validation_cases(data):
        probability = probabilities[case.name].astype(np.float32)
        mask = case.mask(torch.from_numpy(probability))
        found = [score(mask, case.truth, v, case.spacing) for v in VALUES]
        tables["cases"].append(case.name)
        for name in ("dice", "hd95_mm", "nsd"):
            tables[name].append([round(float(getattr(entry, name)), 5) for entry in found])
        for name, value in zip(("ece", "auroc"), calibration(probability, case.truth_on_grid()), strict=True):
            tables[name].append(round(value, 5))
    return {**tables, "labels": list(VALUES), "dice_mean": round(float(np.mean(tables["dice"])), 5)}


@dataclass(frozen=True)
class ValidationCase:
    """A case of the validation split: its image (1, *spatial) on the network's grid, the truth on its own."""

    name: str
    image: torch.Tensor
    grid: Any
    truth: np.ndarray
    spacing: tuple[float, ...]

    def mask(self, probability: torch.Tensor) -> np.ndarray:
        """The label map on the case's own grid."""
        found = NativeMap(self.grid, probability.shape[1:], 0, best_class, torch.uint8)
        found.add(probability, 0)
        return np.array([0, *VALUES], dtype=np.uint8)[found.result()]

    def dice(self, probability: torch.Tensor) -> list[float]:
        """Dice of each structure."""
        mask, truth = self.mask(probability), self.truth
        overlap = [float(((mask == v) & (truth == v)).sum()) for v in VALUES]
        return [2.0 * n / float((mask == v).sum() + (truth == v).sum()) for n, v in zip(overlap, VALUES, strict=True)]

    def truth_on_grid(self) -> np.ndarray:
        """The truth on the network's grid as class indices; the set's spacing is 1 mm, so nothing is resampled."""
        turned = np.ascontiguousarray(self.grid.orientation.apply(self.truth[None]))[0]
        assert turned.shape == self.grid.shape
        return np.searchsorted([0, *VALUES], turned)


@lru_cache(maxsize=1)
def validation_cases(data: Path) -> list[ValidationCase]:
    """The validation split, in memory."""
    found = []
    preparation = study.settings("supervised", 0).data
    for case in split(load_dataset(data))[1]:
        volume, (truth, _) = read(case.images[0]), read_label(case.label)
        image, grid = to_model_space(volume, preparation)
        found.append(ValidationCase(case.name, image, grid, truth, volume.spacing))
    return found


def sample(model: store.Model, image: torch.Tensor, steps: int, sampler: str, seed: int = 0) -> Any:
    """The probabilities of each step on the network's grid, in the precision that the machine is quick in."""
    from DiffSegLib.network.precision import pick_precision

    card = model.card
    precision = pick_precision("auto", torch.device("cpu"))
    arguments = (model.network, card.num_classes, card.data.patch, card.network.factors, card.diffusion)
    return Sampling(*arguments, steps=steps, sampler=sampler, seed=seed, precision=precision).volumes(image)


def calibration(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Expected calibration error (Guo et al. 2017, 15 bins) and how well the entropy finds the wrong voxels (AUROC).

    probability: (classes, *spatial). truth: (*spatial) class indices. Within MARGIN voxels of the structures.
    """
    near = binary_dilation(truth > 0, iterations=MARGIN)
    p, t = probability[:, near].astype(np.float64), truth[near]
    right, confidence = p.argmax(0) == t, p.max(0)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    weights = np.bincount(place, minlength=BINS) / len(t)
    hits = np.bincount(place, right, BINS) / np.maximum(np.bincount(place, minlength=BINS), 1)
    trust = np.bincount(place, confidence, BINS) / np.maximum(np.bincount(place, minlength=BINS), 1)
    entropy = -(np.clip(p, 1e-8, 1) * np.log(np.clip(p, 1e-8, 1))).sum(0)
    ranks, wrong = rankdata(entropy), (~right).sum()
    pairs = wrong * right.sum()
    auroc = (ranks[~right].sum() - wrong * (wrong + 1) / 2) / pairs if pairs else 1.0
    return float((weights * np.abs(hits - trust)).sum()), float(auroc)
