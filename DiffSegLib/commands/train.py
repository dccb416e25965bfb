"""`diffseg train`: from a labelled folder to a model file."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from DiffSegLib import config
from DiffSegLib.presets import PRESETS


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("train", help="train a model on a labelled folder", allow_abbrev=False)
    verb.add_argument("--data", type=Path, required=True, help="folder with dataset.json in MSD layout")
    verb.add_argument("--out", type=Path, required=True, help="run folder; ends with model.safetensors")
    verb.add_argument("--preset", default="default", help=f"starting point: {', '.join(PRESETS)}")
    verb.add_argument("--config", type=Path, help="a config.json instead of a preset")
    verb.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. training.batch=2")
    verb.add_argument("--split", type=Path, help="JSON with lists train and val of case names")
    verb.add_argument("--minutes", type=float, help="budget of wall time instead of iterations")
    verb.add_argument("--iterations", type=int, help="budget of optimiser steps")
    verb.add_argument("--resume", action="store_true", help="go on with the training in --out")
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.add_argument("--seed", type=int, help="seed of everything random")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Train and say where the model is."""
    from DiffSegLib.commands import StopFlag
    from DiffSegLib.commands.show import Show
    from DiffSegLib.training.run import train_folder

    settings = config.load(options.config) if options.config else config.preset(options.preset)
    settings = config.override(settings, options.set)
    budget = {}
    if options.minutes is not None:
        budget["minutes"] = options.minutes
    if options.iterations is not None:
        budget |= {"iterations": options.iterations, "minutes": None}
    if options.seed is not None:
        budget["seed"] = options.seed
    settings = config.from_json(replace(settings, training=replace(settings.training, **budget)).to_json(), "train")
    show = Show()
    try:
        path = train_folder(
            options.data,
            options.out,
            settings,
            split_file=options.split,
            device=options.device,
            resume=options.resume,
            listener=show,
            cancelled=StopFlag(),
        )
    finally:
        show.close()
    print(f"The model is {path}.", file=sys.stderr)
    return 0, {"model": str(path)}
