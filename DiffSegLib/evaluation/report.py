"""`evaluate`: two folders of masks become metrics.csv, summary.json and report.html."""

import csv
import io
import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.errors import InputError
from DiffSegLib.evaluation.metrics import Scores
from DiffSegLib.evaluation.page import render
from DiffSegLib.evaluation.summary import summarize
from DiffSegLib.evaluation.table import Table, evaluate_folders
from DiffSegLib.whole_files import check_folder, write_text


def evaluate(
    prediction: Path,
    reference: Path,
    out: Path,
    listener: events.Listener = events.silent,
    *,
    tolerance_mm: float = 1.0,
    predicted_only: bool = False,
) -> dict[str, Any]:
    """Measure a folder of masks against references, write the report into `out`, and return the summary.

    Writes `metrics.csv` (a line per case and structure), `summary.json` and `report.html`, each aside and then renamed;
    nothing is written before everything is measured, nor where no case could be: that is raised. `summary["problems"]`
    names every case that could not be measured. For the parameters and what else is raised see `evaluate_folders`.
    """
    check_folder(out)
    table = evaluate_folders(
        prediction, reference, tolerance_mm=tolerance_mm, predicted_only=predicted_only, listener=listener
    )
    if table.problems and not table.rows:
        first = next(iter(table.problems.values()))
        raise InputError(f"None of {len(table.problems)} cases could be measured; the first: {first}")
    if not table.labels:
        raise InputError(f"{reference}: neither its masks nor those of {prediction} hold a label above 0.")
    summary = {"prediction": str(prediction), "reference": str(reference), **summarize(table)}
    texts = {
        "metrics.csv": to_csv(table),
        "summary.json": json.dumps(summary, indent=2, allow_nan=False) + "\n",
        "report.html": render(table, summary, str(prediction), str(reference)),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    return summary


def to_csv(table: Table) -> str:
    """The table as CSV text: case, label, name, then every field of `Scores` in six significant digits.

    Distances of a missed or spurious structure are `inf`; a measure without meaning (the structure is in neither mask)
    is an empty field.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "label", "name", *(f.name for f in fields(Scores))])
    for row in table.rows:
        writer.writerow([row.case, row.label, row.name, *(_cell(value) for value in asdict(row.scores).values())])
    return stream.getvalue().replace("\r", "\\r")  # of a file's name; csv does not quote it


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"
