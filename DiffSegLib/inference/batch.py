"""Segment many cases in this process, with a model that is kept warm."""

from collections.abc import Callable
from pathlib import Path

from DiffSegLib import events
from DiffSegLib.data.batch import Case, Outcome, Result, run_cases
from DiffSegLib.data.channels import read_case
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions


def predict_cases(
    predictor: Predictor,
    cases: list[Case],
    output: Path,
    options: SegmentOptions,
    *,
    file_format: str = "seg.nrrd",
    skip_existing: bool = False,
    listener: events.Listener = events.silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Segment each (name, files) into `output`; see run_cases for what is written and what a failure does."""
    labels = predictor.model.card.labels
    names = {label.value: label.name for label in labels}

    def segment(paths: tuple[Path, ...], relay: events.Listener) -> Result:
        volume = read_case(paths, len(predictor.model.card.channels))
        found = predictor(volume, options, relay, cancelled=cancelled)
        sizes = {names[value]: ml for value, ml in found.volumes_ml.items()}
        return Result(found.mask, found.steps, found.uncertainty, volume.affine, labels, sizes, found.provenance)

    return run_cases(cases, output, segment, file_format=file_format, skip_existing=skip_existing, listener=listener)
