"""A table becomes a summary: mean, spread, median and a confidence interval per structure and over all.

The unit of all statistics is the case: `overall` first averages the structures of each case, so that the structures of
one patient are never counted as independent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from DiffSegLib import __version__
from DiffSegLib.evaluation.metrics import OUTCOMES
from DiffSegLib.evaluation.table import Row, Table

SCHEMA_VERSION = 1
METRICS = ("dice", "iou", "nsd", "hd95_mm", "asd_mm", "centroid_mm")
VOLUMES = ("volume_ml", "reference_volume_ml")
BOOTSTRAP_DRAWS = 10_000
BOOTSTRAP_SEED = 0


def summarize(table: Table) -> dict[str, Any]:
    """A JSON-ready summary: `labels` (one entry each), `overall`, `problems`, and what the numbers mean.

    Means run over finite values only; `n` is their number. `missed`, `spurious` and `absent` count the cases behind
    values that are not finite (see `evaluation.metrics`), so read them beside every distance in mm.
    """
    labels = []
    for value, name in table.labels.items():
        rows = [row for row in table.rows if row.label == value]
        metrics = {metric: describe([getattr(row.scores, metric) for row in rows]) for metric in (*METRICS, *VOLUMES)}
        labels.append({"value": value, "name": name, **_counts(rows), "metrics": metrics})
    by_case = [[row for row in table.rows if row.case == case] for case in table.cases]
    means = {m: [_mean_of_finite([getattr(r.scores, m) for r in rows]) for rows in by_case] for m in METRICS}
    overall = {metric: describe(values) for metric, values in means.items()}
    return {
        "schema": SCHEMA_VERSION,
        "diffseg": __version__,
        "cases": len(by_case),
        "tolerance_mm": table.tolerance_mm,
        "labels": labels,
        "overall": {**_counts(table.rows), "metrics": overall},
        "problems": [{"case": case, "message": text} for case, text in table.problems.items()],
        "interval": f"95 % percentile bootstrap over cases, {BOOTSTRAP_DRAWS} draws, seed {BOOTSTRAP_SEED}",
    }


def describe(values: Sequence[float]) -> dict[str, Any]:
    """n, mean, sd (n - 1), median and `ci95` [low, high] of the finite values; null where there are too few.

    >>> describe([1.0, 3.0, float("inf")])["mean"]
    2.0
    """
    finite = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    if finite.size == 0:
        return {"n": 0, "mean": None, "sd": None, "median": None, "ci95": None}
    return {
        "n": int(finite.size),
        "mean": float(finite.mean()),
        "sd": float(finite.std(ddof=1)) if finite.size > 1 else None,
        "median": float(np.median(finite)),
        "ci95": bootstrap_interval(finite) if finite.size > 1 else None,
    }


def bootstrap_interval(values: np.ndarray) -> list[float]:
    """95 % percentile bootstrap interval of the mean of (n,) values, [low, high] (Efron and Tibshirani 1993, ch. 13).

    The seed is fixed: the same values give the same interval.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    block = max(1, 1_000_000 // values.size)  # draws at a time: a few MB, whatever the number of cases
    means = [
        values[generator.integers(0, values.size, (min(block, BOOTSTRAP_DRAWS - done), values.size))].mean(axis=1)
        for done in range(0, BOOTSTRAP_DRAWS, block)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return [float(low), float(high)]


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    return {outcome: sum(row.scores.outcome == outcome for row in rows) for outcome in OUTCOMES}


def _mean_of_finite(values: Sequence[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return sum(finite) / len(finite) if finite else float("nan")
