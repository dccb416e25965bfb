"""The statistics of the study: intervals over cases, and paired comparisons of two arms."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon

DRAWS, SEED = 10_000, 0


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of (n,) values over cases."""
    draws = np.random.default_rng(SEED).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def by_case(results: Sequence[dict], key: str) -> np.ndarray:
    """(cases,) values of an arm: the mean over its seeds and structures."""
    return np.mean([np.asarray(r[key], dtype=float).reshape(len(r["cases"]), -1).mean(axis=1) for r in results], axis=0)


def paired(results: Sequence[dict], other: Sequence[dict], key: str) -> tuple[float, tuple[float, float], float]:
    """Mean difference over cases, its 95 % interval, and the p of Wilcoxon's signed-rank test.

    Each case has the mean over the seeds of its arm, so the cases are what is drawn; how far seeds lie apart stands
    beside it in the table.
    """
    assert results[0]["cases"] == other[0]["cases"]
    difference = by_case(results, key) - by_case(other, key)
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    return float(difference.mean()), interval(difference), p
