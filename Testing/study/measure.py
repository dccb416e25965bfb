"""Everything that the study measures of one model on the validation cases."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata

from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import read, read_label
from DiffSegLib.data.preprocess import classes_to_native, to_model_space
from DiffSegLib.data.splits import split
from DiffSegLib.evaluation.metrics import score
from DiffSegLib.inference.windows import sample_volume
from DiffSegLib.models import store

STEPS = 5
CURVE = (1, 2, 3, 4, 5, 6, 8, 10)  # numbers of steps
MARGIN = 5  # voxels around the structures within which calibration is measured: far background is always right
BINS = 15


def measure(model_file: Path, data: Path, run: Path, curve_too: bool = False) -> dict[str, Any]:
    """Scores per case and structure, calibration, and cost; the probabilities go to `run` for ensembles.

    dice, hd95_mm, nsd: (cases, labels) after five DDIM steps, native grid, seed 0. dice_by_step: mean after each of
    them. dice_by_steps: mean after the last of 1 to 10 steps
    (`curve_too`). ece, auroc: see `calibration`.
    """
    model = store.load(model_file)
    model.network.eval()
    _, validation = split(load_dataset(data))
    values = [label.value for label in model.card.labels]
    out: dict[str, Any] = {"cases": [case.name for case in validation], "labels": values}
    by_step, ddpm, curve, calibrated, kept = [], [], {k: [] for k in CURVE}, [], {}
    tables: dict[str, list[list[float]]] = {"dice": [], "hd95_mm": [], "nsd": []}
    cpu = 0.0
    for case in validation:
        volume, (truth, _) = read(case.images[0]), read_label(case.label)
        image, grid = to_model_space(volume, model.card.data)

        def dice_of(probability: torch.Tensor, grid: Any = grid, truth: np.ndarray = truth) -> list[float]:
            mask = np.array([0, *values], dtype=np.uint8)[classes_to_native(probability, grid)]
            return [
                2.0 * float(((mask == v) & (truth == v)).sum()) / float((mask == v).sum() + (truth == v).sum())
                for v in values
            ]

        began = time.process_time()
        probabilities = list(sample(model, image, STEPS, "ddim"))
        cpu += time.process_time() - began
        by_step.append([dice_of(p) for p in probabilities])
        last = probabilities[-1]
        kept[case.name] = last.numpy().astype(np.float16)
        mask = np.array([0, *values], dtype=np.uint8)[classes_to_native(last, grid)]
        found = [score(mask, truth, v, volume.spacing) for v in values]
        for name in tables:
            tables[name].append([round(float(getattr(entry, name)), 5) for entry in found])
        ddpm.append(dice_of(list(sample(model, image, STEPS, "ddpm"))[-1]))
        for k in CURVE if curve_too else ():
            curve[k].append(dice_of(list(sample(model, image, k, "ddim"))[-1]))
        calibrated.append(calibration(last.numpy(), grid_truth(truth, grid, values)))
    np.savez_compressed(run / "probabilities.npz", **kept)
    return (
        out
        | tables
        | {
            "dice_mean": round(float(np.mean(tables["dice"])), 5),
            "dice_by_step": [round(float(x), 5) for x in np.mean(by_step, axis=(0, 2))],
            "dice_ddpm": round(float(np.mean(ddpm)), 5),
            "dice_by_steps": {str(k): round(float(np.mean(v)), 5) for k, v in curve.items() if v},
            "ece": [round(a, 5) for a, _ in calibrated],
            "auroc": [round(b, 5) for _, b in calibrated],
            "cpu_seconds_per_case": round(cpu / len(validation), 4),
            "parameters": sum(p.numel() for p in model.network.parameters()),
        }
    )


def sample(model: store.Model, image: torch.Tensor, steps: int, sampler: str, seed: int = 0) -> Any:
    """The probabilities of each step on the network's grid, in the precision that the machine is quick in."""
    from DiffSegLib.network.precision import pick_precision

    card = model.card
    factors = tuple(int(n) for n in np.prod(np.array(card.network.strides), axis=0))
    return sample_volume(
        model.network,
        image,
        card.num_classes,
        card.data.patch,
        factors,
        card.diffusion,
        steps=steps,
        sampler=sampler,
        seed=seed,
        precision=pick_precision("auto", torch.device("cpu")),
    )


def grid_truth(truth: np.ndarray, grid: Any, values: list[int]) -> np.ndarray:
    """The label map on the network's grid as class indices; the set's spacing is 1 mm, so nothing is resampled."""
    turned = np.ascontiguousarray(grid.orientation.apply(truth[None]))[0]
    assert turned.shape == grid.shape
    table = np.zeros(256, dtype=np.int64)
    table[values] = np.arange(1, len(values) + 1)
    return table[turned]


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
