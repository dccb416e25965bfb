"""The report as one self-contained HTML page: no script, no network, readable on a phone, on paper and in the dark."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from DiffSegLib.evaluation.plots import box_plot
from DiffSegLib.evaluation.summary import METRICS
from DiffSegLib.evaluation.table import Table
from DiffSegLib.labels import distinct_color

WORST = 5  # how many of the worst cases are listed
TITLES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd95_mm": "HD95", "asd_mm": "ASD", "centroid_mm": "Centroids"}


def render(table: Table, summary: dict[str, Any], prediction: str, reference: str) -> str:
    """The whole page; `summary` is that of `summarize(table)`, the two folders are named in its head."""
    environment = Environment(autoescape=True, keep_trailing_newline=True)
    environment.filters |= {"number": _number, "span": _span}
    found = [row for row in table.rows if math.isfinite(row.scores.dice)]
    colors = {value: _css(n) for n, value in enumerate(table.labels)}
    return environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8")).render(
        summary=summary,
        prediction=prediction,
        reference=reference,
        metrics=METRICS,
        titles=TITLES,
        tolerance=f"{table.tolerance_mm:g}",
        colors=colors,
        plots=_plots(table, colors),
        rows=table.rows,
        worst=sorted(found, key=lambda row: row.scores.dice)[:WORST],
    )


def _plots(table: Table, colors: dict[int, str]) -> list[str]:
    pictures = []
    # Two structures may share a name; the value tells them apart.
    used = list(table.labels.values())
    names = {v: n if used.count(n) == 1 else f"{n} ({v})" for v, n in table.labels.items()}
    for metric in ("dice", "nsd", "hd95_mm", "asd_mm"):
        groups = {
            names[value]: [(row.case, getattr(row.scores, metric)) for row in table.rows if row.label == value]
            for value in table.labels
        }
        distance = metric.endswith("_mm")
        pictures.append(
            box_plot(
                groups,
                {names[value]: color for value, color in colors.items()},
                title=f"NSD at {table.tolerance_mm:g} mm" if metric == "nsd" else TITLES[metric],
                unit="mm" if distance else "",
                from_zero=distance,
                at_most=math.inf if distance else 1.0,
            )
        )
    return pictures


def _number(value: float | None, metric: str) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.2f}" if metric.endswith(("_mm", "ml")) else f"{value:.3f}"


def _span(interval: Sequence[float], metric: str) -> str:
    return f"{_number(interval[0], metric)}–{_number(interval[1], metric)}"


def _css(index: int) -> str:
    return "rgb({} {} {})".format(*(round(255 * x) for x in distinct_color(index)))
