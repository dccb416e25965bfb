"""`diffseg evaluate`: compare masks with references."""

import argparse
import sys
from pathlib import Path
from typing import Any

from DiffSegLib.errors import printable


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("evaluate", help="measure masks against references", allow_abbrev=False)
    verb.add_argument("--prediction", type=Path, required=True, help="folder of masks, or one mask")
    verb.add_argument("--reference", type=Path, required=True, help="folder of label maps, or one")
    verb.add_argument("--out", type=Path, required=True, help="folder for metrics.csv, summary.json, report.html")
    verb.add_argument("--tolerance", type=float, default=1.0, metavar="MM", help="of the surface Dice (default 1 mm)")
    verb.add_argument("--predicted-only", action="store_true", help="leave out references without a prediction")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Measure and say where the report is."""
    from DiffSegLib.evaluation.report import evaluate
    from DiffSegLib.terminal import Show

    show = Show()
    folders, only = (options.prediction, options.reference, options.out), options.predicted_only
    summary = evaluate(*folders, show, tolerance_mm=options.tolerance, predicted_only=only)
    show.close()
    if not options.json:
        print(printable(table_of(summary)))
    print(f"The report is {options.out / 'report.html'}.", file=sys.stderr)
    return (1 if summary["problems"] else 0), summary


def table_of(summary: dict[str, Any]) -> str:
    """Means over the cases that could be measured, a line for each structure and one for all."""
    titles = {"dice": "Dice", "hd95_mm": "HD95 mm", "nsd": f"NSD@{summary['tolerance_mm']:g} mm", "asd_mm": "ASD mm"}
    cases = summary["cases"]
    first = f"mean over {cases} of {cases + len(summary['problems'])} cases"
    lines = [f"{first:28}" + "".join(f"{title:>12}" for title in titles.values()) + f"{'missed':>8}"]
    for entry in (*summary["labels"], {**summary["overall"], "name": "all"}):
        means = [entry["metrics"][metric]["mean"] for metric in titles]
        cells = "".join(f"{'-' if mean is None else f'{mean:.4f}':>12}" for mean in means)
        lines.append(f"{entry['name'][:28]:28}{cells}{entry['missed']:>8}")
    return "\n".join(lines)
