"""Segment the cases of data.batch in this process, with a model that is kept warm."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from DiffSegLib import events
from DiffSegLib.data.batch import Prediction, Segment
from DiffSegLib.data.channels import read_case
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions


def segment_with(
    predictor: Predictor, options: SegmentOptions, cancelled: Callable[[], bool] = lambda: False
) -> Segment:
    """What run_cases needs: the image files of a case -> its prediction and its grid."""

    def segment(paths: tuple[Path, ...], listener: events.Listener) -> tuple[Prediction, np.ndarray]:
        volume = read_case(paths, len(predictor.model.card.channels))
        return predictor(volume, options, listener, cancelled=cancelled), volume.affine

    return segment
