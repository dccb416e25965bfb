"""Box and strip plots as SVG text: every case is a dot, so that an outlier is seen and not averaged away.

Plain text instead of a plotting package: the report then needs nothing to be installed and opens without a network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, LEFT, RIGHT = 520, 118, 18
TOP, ROW, BOTTOM = 12, 46, 34


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
    axis = make_axis(finite or [0.0, 1.0], from_zero=from_zero, at_most=at_most)
    height = TOP + ROW * len(groups) + BOTTOM
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">'
    ]
    bottom = TOP + ROW * len(groups)
    for tick in axis.ticks():
        x = axis.x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:.10g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = f"{title} ({unit})" if unit else title
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{bottom + 31}" text-anchor="middle">{escape(label)}</text>')
    for n, (name, pairs) in enumerate(groups.items()):
        parts.append(_group(name, pairs, colors[name], TOP + ROW * (n + 0.5), axis))
    return "\n".join([*parts, "</svg>"])


def _group(name: str, pairs: Sequence[tuple[str, float]], color: str, y: float, axis: Axis) -> str:
    shown = name if len(name) <= 17 else name[:16] + "…"
    parts = [
        f'<g style="--c:{color}"><text class="name" x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">'
        f"<title>{escape(name)}</title>{escape(shown)}</text>"
    ]
    values = np.array([value for _, value in pairs if math.isfinite(value)])
    if values.size:
        q1, median, q3 = np.percentile(values, [25, 50, 75])
        reach = 1.5 * (q3 - q1)
        low, high = values[values >= q1 - reach].min(), values[values <= q3 + reach].max()
        parts.append(
            f'<line class="whisker" x1="{axis.x(low):.1f}" y1="{y:.1f}" x2="{axis.x(high):.1f}" y2="{y:.1f}"/>'
        )
        width = max(axis.x(q3) - axis.x(q1), 1.0)
        parts.append(
            f'<rect class="box" x="{axis.x(q1):.1f}" y="{y - 11:.1f}" width="{width:.1f}" height="22" rx="4"/>'
        )
        for n, (case, value) in enumerate((case, value) for case, value in pairs if math.isfinite(value)):
            # A fixed low-discrepancy jitter: the same table always gives the same picture.
            shift = ((n * 0.618033988749895) % 1.0 - 0.5) * 17
            tip = f"<title>{escape(case)}: {value:.4g}</title>"
            parts.append(f'<circle cx="{axis.x(value):.1f}" cy="{y + shift:.1f}" r="3">{tip}</circle>')
        x = axis.x(median)
        parts.append(f'<line class="median" x1="{x:.1f}" y1="{y - 11:.1f}" x2="{x:.1f}" y2="{y + 11:.1f}"/>')
        x = axis.x(values.mean())
        parts.append(f'<path class="mean" d="M{x - 5:.1f} {y:.1f}l5 -5l5 5l-5 5z"/>')
    infinite = sum(math.isinf(value) for _, value in pairs)
    if infinite:
        note = f"{infinite} without a finite value"
        parts.append(f'<text class="note" x="{WIDTH - RIGHT}" y="{y - 15:.1f}" text-anchor="end">{note}</text>')
    return "".join([*parts, "</g>"])
