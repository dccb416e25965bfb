"""Measure what nnunet_train.py has predicted, with the measures of every other arm.

python Testing/study/nnunet_measure.py --data DATA --run RUNS/60/nnunet.seed-0
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from measure import score_all, validation_cases

import study


def main() -> int:
    """Read the probabilities, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    options = parser.parse_args()
    training = json.loads((options.run / "training.json").read_text(encoding="utf-8"))
    folder, probabilities = Path(training.pop("predictions")), {}
    for case in validation_cases(options.data):
        native = np.load(folder / f"{case.name}.npz")["probabilities"]
        probabilities[case.name] = np.ascontiguousarray(case.grid.orientation.apply(native))
    budget, (arm, seed) = float(options.run.parent.name), options.run.name.split(".seed-")
    found = {"arm": arm, "seed": int(seed), "budget_core_minutes": budget, **training}
    found |= score_all(probabilities, options.data)
    np.savez_compressed(
        options.run / "probabilities.npz", **{k: v.astype(np.float16) for k, v in probabilities.items()}
    )
    study.result_file(arm, int(seed), budget).parent.mkdir(parents=True, exist_ok=True)
    study.result_file(arm, int(seed), budget).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{arm}: Dice {found['dice_mean']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
