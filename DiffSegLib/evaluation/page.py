"""The report as one self-contained HTML page: no script, no network, readable on a phone, on paper and in the dark."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from DiffSegLib.evaluation.plots import box_plot
from DiffSegLib.evaluation.summary import METRICS
from DiffSegLib.evaluation.table import Row, Table
from DiffSegLib.labels import distinct_color

WORST = 5  # how many of the worst cases are listed

_TITLES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd95_mm": "HD95", "asd_mm": "ASD"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6878; --line: #e2e6ec; --card: #fff; --page: #f5f7fa;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf1; --soft: #9aa6b8; --line: #2c3442; --card: #181d26;
  --page: #10141b; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -.01em; } h2 { font-size: 17px; margin: 36px 0 12px; }
p { margin: 4px 0; } .soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin-top: 20px; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; white-space: nowrap; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 14px; }
.card { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 7px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; font-size: 13px; } tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child, .left { text-align: left; } td small { display: block; color: var(--soft); }
td.left { white-space: normal; } .total td { font-weight: 600; } .bad { color: var(--bad); }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
summary { cursor: pointer; font-weight: 600; } details > div { margin-top: 10px; overflow-x: auto; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .axis { font-weight: 600; }
svg .tick, svg .note { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); } svg .whisker { stroke: var(--c); stroke-width: 1.6; }
svg .box { fill: var(--c); fill-opacity: .2; stroke: var(--c); stroke-width: 1.4; }
svg circle { fill: var(--c); fill-opacity: .75; } svg .median { stroke: var(--ink); stroke-width: 2.2; }
svg .mean { fill: var(--card); stroke: var(--ink); stroke-width: 1.4; }
@media print { body { background: #fff; } .tile, .card { break-inside: avoid; } }
"""


def render(table: Table, summary: dict[str, Any], prediction: str, reference: str) -> str:
    """The whole page; `summary` is that of `summarize(table)`, the two folders are named in its head."""
    colors = {value: _css(n) for n, value in enumerate(table.labels)}
    sections = [
        f"<h1>Segmentation report</h1><p class=soft>{escape(prediction)} measured against {escape(reference)}</p>",
        _tiles(summary),
        _problems(summary),
        f"<h2>By structure</h2><div class=card>{_label_table(summary, colors)}</div>",
        f"<h2>Case by case</h2><div class=plots>{_plots(table, colors)}</div>",
        _legend(),
        f"<h2>Lowest Dice</h2><div class=card>{_case_table(_worst(table.rows))}</div>" if table.rows else "",
        f"<h2>All cases</h2><details class=card><summary>{len(table.rows)} rows</summary>"
        f"<div>{_case_table(table.rows)}</div></details>",
        _definitions(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Segmentation report</title>'
        f"<style>{_STYLE}</style></head><body><main>\n" + "\n".join(sections) + "\n</main></body></html>\n"
    )


def _tiles(summary: dict[str, Any]) -> str:
    overall, metrics = summary["overall"], summary["overall"]["metrics"]
    tiles = [(str(summary["cases"]), "cases measured")]
    for metric in ("dice", "nsd", "hd95_mm"):
        entry = metrics[metric]
        interval = f", 95 % CI {_span(entry['ci95'], metric)}" if entry["ci95"] else ""
        name = f"NSD at {summary['tolerance_mm']:g} mm" if metric == "nsd" else _TITLES[metric]
        tiles.append((_with_unit(entry["mean"], metric), f"mean {name}{interval}"))
    tiles.append((str(overall["missed"]), "structures missed"))
    tiles.append((str(overall["spurious"]), "found where there is none"))
    return (
        "<div class=tiles>" + "".join(f"<div class=tile><b>{b}</b><span>{s}</span></div>" for b, s in tiles) + "</div>"
    )


def _problems(summary: dict[str, Any]) -> str:
    if not summary["problems"]:
        return ""
    rows = "".join(
        f"<tr><td>{escape(p['case'])}</td><td class=left>{escape(p['message'])}</td></tr>" for p in summary["problems"]
    )
    count = len(summary["problems"])
    return (
        f"<h2 class=bad>Not measured: {count} case{'s' * (count > 1)}</h2><div class=card><table>{rows}</table></div>"
    )


def _label_table(summary: dict[str, Any], colors: dict[int, str]) -> str:
    heads = "".join(f"<th>{_TITLES[m]}{' (mm)' if m.endswith('_mm') else ''}</th>" for m in METRICS)
    rows = [f"<tr><th>Structure</th><th>found</th><th>missed</th><th>spurious</th>{heads}<th>volume (ml)</th></tr>"]
    entries = [(label["name"], colors[label["value"]], label) for label in summary["labels"]]
    for name, color, entry in [*entries, ("All, mean per case", None, summary["overall"])]:
        dot = f'<i class=dot style="background:{color}"></i>' if color else ""
        cells = "".join(_mean_cell(entry["metrics"][metric], metric) for metric in METRICS)
        if color:
            volume, true = (_number(entry["metrics"][m]["mean"], "ml") for m in ("volume_ml", "reference_volume_ml"))
            cells += f"<td>{volume}<small>reference {true}</small></td>"
        else:
            cells += "<td></td>"  # a mean over structures of different size says nothing
        counts = "".join(f"<td>{entry[key]}</td>" for key in ("found", "missed", "spurious"))
        rows.append(f"<tr{'' if color else ' class=total'}><td>{dot}{escape(name)}</td>{counts}{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _mean_cell(entry: dict[str, Any], metric: str) -> str:
    spread = f" ± {_number(entry['sd'], metric)}" if entry["sd"] is not None else ""
    interval = f"<small>{_span(entry['ci95'], metric)}</small>" if entry["ci95"] else ""
    return f"<td>{_number(entry['mean'], metric)}{spread}{interval}</td>"


def _plots(table: Table, colors: dict[int, str]) -> str:
    cards = []
    # Two structures may share a name; the value tells them apart.
    used = list(table.labels.values())
    names = {v: n if used.count(n) == 1 else f"{n} ({v})" for v, n in table.labels.items()}
    for metric in ("dice", "nsd", "hd95_mm", "asd_mm"):
        groups = {
            names[value]: [(row.case, getattr(row.scores, metric)) for row in table.rows if row.label == value]
            for value in table.labels
        }
        distance = metric.endswith("_mm")
        title = f"NSD at {table.tolerance_mm:g} mm" if metric == "nsd" else _TITLES[metric]
        picture = box_plot(
            groups,
            {names[value]: color for value, color in colors.items()},
            title=title,
            unit="mm" if distance else "",
            from_zero=distance,
            at_most=math.inf if distance else 1.0,
        )
        cards.append(f"<div class=card>{picture}</div>")
    return "".join(cards)


def _legend() -> str:
    return (
        "<p class=soft>Each dot is one case (point at it for its name). Box: quartiles; line: median; diamond: mean; "
        "whiskers: farthest case within 1.5 times the box.</p>"
    )


def _worst(rows: Sequence[Row]) -> list[Row]:
    return sorted((row for row in rows if math.isfinite(row.scores.dice)), key=lambda row: row.scores.dice)[:WORST]


def _case_table(rows: Sequence[Row]) -> str:
    heads = "".join(f"<th>{_TITLES[m]}{' (mm)' if m.endswith('_mm') else ''}</th>" for m in METRICS)
    lines = [
        f"<tr><th>Case</th><th class=left>Structure</th><th class=left>outcome</th>{heads}<th>volume (ml)</th>"
        "<th>reference (ml)</th></tr>"
    ]
    for row in rows:
        cells = "".join(f"<td>{_number(getattr(row.scores, metric), metric)}</td>" for metric in METRICS)
        cells += "".join(f"<td>{_number(v, 'ml')}</td>" for v in (row.scores.volume_ml, row.scores.reference_volume_ml))
        outcome = "left bad" if row.scores.outcome in ("missed", "spurious") else "left"
        lines.append(
            f'<tr><td>{escape(row.case)}</td><td class=left>{escape(row.name)}</td><td class="{outcome}">'
            f"{row.scores.outcome}</td>{cells}</tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def _definitions(summary: dict[str, Any]) -> str:
    return (
        "<h2>What the numbers mean</h2><div class=card><p>All are measured on the reference's own grid, distances in "
        "mm between surface voxels. <b>Dice</b>, <b>IoU</b>: overlap of voxels. "
        f"<b>NSD</b>: share of both surfaces within {summary['tolerance_mm']:g} mm of the other. "
        "<b>HD95</b>: larger of the two directed 95th percentiles. "
        "<b>ASD</b>: mean distance over both surfaces.</p><p>A missed or spurious structure has Dice, IoU and NSD 0 "
        "and no finite distance: it is in the means of the first three, and only in the counts beside HD95 and ASD. "
        "A structure in neither mask is left out. “All” averages the structures of each case first.</p>"
        f"<p class=soft>Mean ± standard deviation; below, {escape(summary['interval'])}. "
        f"DiffSeg {escape(summary['diffseg'])}.</p></div>"
    )


def _number(value: float | None, metric: str) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.2f}" if metric.endswith(("_mm", "ml")) else f"{value:.3f}"


def _with_unit(value: float | None, metric: str) -> str:
    unit = " mm" if metric.endswith("_mm") and value is not None else ""
    return _number(value, metric) + unit


def _span(interval: Sequence[float], metric: str) -> str:
    return f"{_number(interval[0], metric)}–{_number(interval[1], metric)}"


def _css(index: int) -> str:
    return "rgb({} {} {})".format(*(round(255 * x) for x in distinct_color(index)))
