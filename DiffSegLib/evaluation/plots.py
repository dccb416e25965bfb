"""Box and strip plots as SVG text: every case is a dot, so that an outlier is seen and not averaged away.

Plain text instead of a plotting package: the report then needs nothing to be installed and opens without a network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

WIDTH, LEFT, RIGHT = 520, 118, 18
TOP, ROW, BOTTOM = 12, 46, 34
TEMPLATE = Path(__file__).with_name("plot.html").read_text(encoding="utf-8")
PAGE = Environment(autoescape=True).from_string(TEMPLATE)


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high` with ticks at round numbers."""

    low: float
    high: float
    step: float

    def x(self, value: float) -> float:
        """Pixels from the left edge of the picture."""
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        """Round values from low to high, both included."""
        return [self.low + n * self.step for n in range(round((self.high - self.low) / self.step) + 1)]


def make_axis(values: Sequence[float], *, from_zero: bool, at_most: float = math.inf) -> Axis:
    """An axis that holds all values, with 2 to 8 round steps; `at_most` ends it where the measure ends.

    >>> make_axis([0.81, 0.93], from_zero=False, at_most=1.0)
    Axis(low=0.8, high=0.95, step=0.05)
    """
    low, high = (0.0 if from_zero else min(values)), max(values)
    if high - low < 1e-9:
        low, high = (0.0, max(high, 1.0)) if from_zero else (low - 0.05, high + 0.05)
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= raw * 0.75)
    first, last = math.floor(low / step + 1e-9), math.ceil(min(high, at_most) / step - 1e-9)
    return Axis(round(first * step, 10), round(max(last, first + 1) * step, 10), step)


def box_plot(
    groups: Mapping[str, Sequence[tuple[str, float]]],
    colors: Mapping[str, str],
    *,
    title: str,
    unit: str = "",
    from_zero: bool = False,
    at_most: float = math.inf,
) -> str:
    """One horizontal box with its dots per group, as a stand-alone `<svg>` element.

    `groups` is name -> (case, value) pairs; `colors` is name -> CSS colour. Values that are not finite are left out and
    their number is written at the row's end. The box runs from quartile to quartile, whiskers to the farthest value
    within 1.5 times that range (Tukey), the diamond is the mean.
    """
    finite = [value for pairs in groups.values() for _, value in pairs if math.isfinite(value)]
    places = {"width": WIDTH, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "below": BOTTOM}
    return PAGE.render(
        axis=make_axis(finite or [0.0, 1.0], from_zero=from_zero, at_most=at_most),
        title=title,
        unit=unit,
        rows=[_row(*group, colors[group[0]], TOP + ROW * (n + 0.5)) for n, group in enumerate(groups.items())],
        bottom=TOP + ROW * len(groups),
        middle=(LEFT + WIDTH - RIGHT) / 2,
        **places,
    )


def _row(name: str, pairs: Sequence[tuple[str, float]], color: str, y: float) -> dict[str, Any]:
    """What the template draws of a group; `y` is its middle."""
    finite = [(case, value) for case, value in pairs if math.isfinite(value)]
    row = {"name": name, "color": color, "y": y, "infinite": sum(math.isinf(value) for _, value in pairs)}
    if not finite:
        return row
    values = np.array([value for _, value in finite])
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    low, high = values[values >= q1 - 1.5 * (q3 - q1)].min(), values[values <= q3 + 1.5 * (q3 - q1)].max()
    box = {"low": low, "q1": q1, "median": median, "mean": values.mean(), "q3": q3, "high": high}
    # a fixed low-discrepancy jitter: the same table always gives the same picture
    dots = [(*each, ((n * 0.618033988749895) % 1.0 - 0.5) * 17) for n, each in enumerate(finite)]
    return {**row, "box": box, "dots": dots}
