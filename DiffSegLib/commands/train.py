"""`diffseg train`: from a labelled folder to a model file."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from DiffSegLib import config
from DiffSegLib.errors import InputError
from DiffSegLib.presets import PRESETS


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("train", help="train a model on a labelled folder", allow_abbrev=False)
    layouts = "labelled folder: MSD or nnU-Net with dataset.json, or image and label pairs (docs/datasets.md)"
    verb.add_argument("--data", type=Path, required=True, help=layouts)
    verb.add_argument("--out", type=Path, help="run folder; ends with model.safetensors")
    verb.add_argument("--preset", default="default", help=f"starting point: {', '.join(PRESETS)}")
    verb.add_argument("--config", type=Path, help="a config.json instead of a preset; what it leaves out is proposed")
    verb.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. training.batch=2")
    verb.add_argument("--split", type=Path, help="JSON with lists train and val of case names")
    verb.add_argument("--skip-bad", action="store_true", help="train without the cases that have problems")
    verb.add_argument("--plan-only", action="store_true", help="print the proposed config.json and do not train")
    verb.add_argument("--memory", type=float, default=8.0, metavar="GIB", help="what the proposal may use (default 8)")
    verb.add_argument("--minutes", type=float, help="budget of wall time instead of iterations")
    verb.add_argument("--iterations", type=int, help="budget of optimiser steps")
    verb.add_argument("--resume", action="store_true", help="go on with the training in --out and its config.json")
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.add_argument("--seed", type=int, help="seed of everything random")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Train and say where the model is."""
    from DiffSegLib.terminal import Show, StopFlag, speaks
    from DiffSegLib.training.plan import make_plan
    from DiffSegLib.training.run import frozen, kept_config, train_folder

    if options.out is None and not options.plan_only:
        raise InputError("--out is needed: the folder for the training and its model.")
    open_keys: frozenset[str] = frozenset()
    if options.resume and not options.plan_only:
        settings = config.override(kept_config(options.out), options.set)
    else:
        settings, open_keys = config.choose(options.preset, options.config, options.set)
    budget = {}
    if options.minutes is not None:
        budget["minutes"] = options.minutes
    if options.iterations is not None:
        budget |= {"iterations": options.iterations, "minutes": None}
    if options.seed is not None:
        budget["seed"] = options.seed
    settings = replace(settings, training=replace(settings.training, **budget))
    settings = config.from_json(settings.to_json(), "train", complete=not open_keys)
    if options.resume and not options.plan_only and settings != frozen(options.out, settings):
        text = "goes on with its own config.json; only iterations, minutes and training.patience can change"
        raise InputError(f"{options.out}: {text}.")
    data = {"split_file": options.split, "skip_bad": options.skip_bad, "memory": options.memory}
    show = Show()
    try:
        if options.plan_only:
            plan = make_plan(options.data, settings, open_keys, listener=show, **data)
        else:
            path = train_folder(
                options.data,
                options.out,
                settings,
                open_keys=open_keys,
                device=options.device,
                resume=options.resume,
                listener=show,
                cancelled=StopFlag(),
                **data,
            )
    finally:
        show.close()
    if options.plan_only:
        for key, why in plan.reasons.items():
            print(f"{key}: {why}.", file=sys.stderr)
        if not options.json:
            print(config.to_text(plan.settings.to_json()))
        return 0, {"config": plan.settings.to_json(), "fingerprint": plan.to_json()}
    if speaks():
        print(f"The model is {path}.", file=sys.stderr)
    return 0, {"model": str(path)}
