"""Measure the shipped model with more and fewer steps, the other sampler, more samples, and without smoothing.

python Testing/study/shipped.py --data DATA
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import CURVE, VALUES

import study
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import read, read_label
from DiffSegLib.data.splits import split
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models import store
from DiffSegLib.models.shipped import find

AS_SHIPPED = "5 steps"
PLAIN = "5 steps, not smoothed"
RESULT = study.RESULTS / "shipped.json"


def main() -> int:
    """Dice of each case and structure on the image's own grid for each way; `flip` says whether samples mirror."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="hippocampus", help="name or file of the model")
    options = parser.parse_args()
    model = store.load(find(options.model))
    plain = replace(model, card=replace(model.card, smoothing=0.0))
    ways: dict[str, tuple[store.Model, dict[str, Any]]] = {AS_SHIPPED: (model, {}), PLAIN: (plain, {})}
    for steps in CURVE:
        ways[f"{steps} step{'s' * (steps > 1)}"] = (model, {"steps": steps})
    ways["5 steps, DDPM"] = (model, {"sampler": "ddpm"})
    for samples in (2, 4):
        ways[f"5 steps, {samples} samples"] = (model, {"samples": samples})
    found: dict[str, list[list[float]]] = {}
    cases = split(load_dataset(options.data))[1]
    for name, (each, arguments) in ways.items():
        predictor, chosen = Predictor(each, "cpu"), SegmentOptions(**arguments)
        found[name] = []
        for case in cases:
            truth, mask = read_label(case.label)[0], predictor(read(case.images[0]), chosen).mask
            found[name].append([_dice(mask == value, truth == value) for value in VALUES])
        print(f"{name}: Dice {np.mean(found[name]):.4f}", flush=True)
    card = {"model": model.card.name, "smoothing": model.card.smoothing, "flip": list(model.card.flip)}
    result = card | {"cases": [case.name for case in cases], "labels": list(VALUES), "dice": found}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in result.items() if key != "dice"]
    measured = ",\n".join(f" {json.dumps(name)}: {json.dumps(dice)}" for name, dice in found.items())
    text = "{\n" + ",\n".join(lines) + ',\n"dice": {\n' + measured + "\n}}\n"
    RESULT.write_text(text, encoding="utf-8")  # a line for each way
    return 0


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return round(2.0 * float((a & b).sum()) / float(a.sum() + b.sum()), 5)


if __name__ == "__main__":
    sys.exit(main())
