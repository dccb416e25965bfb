"""`diffseg predict`: segment files or folders."""

import argparse
import sys
from pathlib import Path
from typing import Any

from DiffSegLib.options import add_predict_arguments, check_model, segment_options, shard_of


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("predict", help="segment images", allow_abbrev=False)
    add_predict_arguments(verb)
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Segment every case; those that fail are named and the rest go on."""
    from DiffSegLib.terminal import Show, StopFlag

    settings, shard = segment_options(options), shard_of(options.shard)
    stop = StopFlag()  # before the imports, which an exception would break somewhere

    from DiffSegLib import events
    from DiffSegLib.data.batch import find_cases, run_cases
    from DiffSegLib.data.outputs import Outputs, Prediction, Wish
    from DiffSegLib.data.volume import Volume
    from DiffSegLib.errors import Cancelled
    from DiffSegLib.inference.predict import Predictor
    from DiffSegLib.models.shipped import find
    from DiffSegLib.models.store import load

    model = load(file := find(options.model))
    if Path(options.model).is_dir() and file.is_relative_to(options.model):
        print(f"The model is {file}.", file=sys.stderr)
    card = model.card
    check_model(options, card)
    cases = find_cases(options.input, len(card.channels))[shard]
    predictor, show = Predictor(model, options.device), Show()

    def segment(volume: Volume, listener: events.Listener) -> Prediction:
        if stop():
            raise Cancelled("Segmentation was cancelled.")
        return predictor(volume, settings, listener, cancelled=stop)

    outputs = Outputs(options.output, card.labels, options.format, Wish(model.sha256, settings))
    try:
        outcome = run_cases(cases, outputs, segment, len(card.channels), options.skip_existing, show, options.overwrite)
    finally:
        show.close()
    return outcome.report("diffseg predict", options.output)
