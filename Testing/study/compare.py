"""The statistics of the study: intervals over cases, and paired comparisons of two arms.

python Testing/study/compare.py --budget 60 cached-unrolled cached-supervised [--seeds 0 1]
"""

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon

import study

DRAWS, SEED = 10_000, 0


def main() -> int:
    """The first arm less the second: Dice, its 95 % interval and p."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs=2, metavar="ARM")
    parser.add_argument("--budget", type=float, required=True, help="core-minutes")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the first arm; without it all that there are")
    options = parser.parse_args()
    first, second = (_finished(arm, options.budget) for arm in options.arms)
    first = [each for each in first if options.seeds is None or each["seed"] in options.seeds]
    if not first or not second:
        raise SystemExit(f"{options.budget:g} core-minutes: no result of one of {', '.join(options.arms)}.")
    difference, (low, high), p = paired(first, second, "dice")
    print(f"{len(first)} and {len(second)} seeds: {difference:+.4f} ({low:+.4f} to {high:+.4f}), p = {p:.2g}")
    return 0


def _finished(arm: str, budget: float) -> list[dict]:
    files = sorted(study.result_file(arm, 0, budget).parent.glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [each for each in found if each["arm"] == arm]


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of (n,) values over cases."""
    draws = np.random.default_rng(SEED).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def by_case(results: Sequence[dict], key: str, structure: int | None = None) -> np.ndarray:
    """(cases,) values of an arm: the mean over its seeds and structures, or over its seeds for one structure."""
    values = [np.asarray(r[key], dtype=float).reshape(len(r["cases"]), -1) for r in results]
    columns = slice(None) if structure is None else slice(structure, structure + 1)
    return np.mean([each[:, columns].mean(axis=1) for each in values], axis=0)


def paired(results: Sequence[dict], other: Sequence[dict], key: str) -> tuple[float, tuple[float, float], float]:
    """Mean difference over cases, its 95 % interval, and the p of Wilcoxon's signed-rank test.

    Each case has the mean over the seeds of its arm, so the cases are what is drawn; how far seeds lie apart stands
    beside it in the table.
    """
    assert results[0]["cases"] == other[0]["cases"]
    difference = by_case(results, key) - by_case(other, key)
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    return float(difference.mean()), interval(difference), p


if __name__ == "__main__":
    sys.exit(main())
