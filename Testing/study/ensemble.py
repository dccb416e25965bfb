"""Measure the mean probabilities of several finished runs: K seeds of one arm, or two arms together.

python Testing/study/ensemble.py --data DATA --runs RUNS/10 ARM [ARM ...] [--seeds 0 1 2]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from measure import score_all

import study


def main() -> int:
    """Average and measure; the result stands beside those of the arms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", metavar="ARM")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs of one budget")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    files = [options.runs / f"{a}.seed-{n}" / "probabilities.npz" for a in options.arms for n in options.seeds]
    loaded = [np.load(file) for file in files]
    mean = {name: np.mean([part[name].astype(np.float32) for part in loaded], axis=0) for name in loaded[0].files}
    budget = float(options.runs.name)
    name = "+".join(options.arms) + (f" x{len(options.seeds)}" if len(options.seeds) > 1 else "")
    found = {"arm": name, "seed": options.seeds[0], "budget_core_minutes": budget * len(files), "members": len(files)}
    found |= score_all(mean, options.data)
    result = study.RESULTS / f"{budget:g}-core-minutes" / f"{name.replace(' ', '-')}.seed-{options.seeds[0]}.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{name}: Dice {found['dice_mean']:.4f}, ECE {np.mean(found['ece']):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
