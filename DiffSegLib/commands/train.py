"""`diffseg train`: from a labelled folder to a model file."""

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from DiffSegLib import config
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.jobs import DEVICES
from DiffSegLib.labels import Label
from DiffSegLib.options import DEVICE_HELP
from DiffSegLib.presets import PRESETS
from DiffSegLib.whole_files import check_folder

STOP_FILE = "stop"  # in the run folder: whoever makes it asks the training to stop, as Ctrl-C does


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("train", help="train a model on a labelled folder", allow_abbrev=False)
    layouts = "labelled folder: MSD or nnU-Net with dataset.json, or image and label pairs (docs/datasets.md)"
    verb.add_argument("--data", type=Path, required=True, help=layouts)
    verb.add_argument("--out", type=Path, help="run folder; ends with model.safetensors")
    verb.add_argument("--preset", default="default", help=f"starting point: {', '.join(PRESETS)} (default default)")
    verb.add_argument("--config", type=Path, help="a config.json instead of a preset; what it leaves out is proposed")
    verb.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="e.g. training.batch=2"
    )
    verb.add_argument("--split", type=Path, help="JSON with lists train and val of case names")
    verb.add_argument("--skip-bad", action="store_true", help="train without the cases that have problems")
    verb.add_argument("--plan-only", action="store_true", help="print the proposed config.json and do not train")
    verb.add_argument("--memory", type=float, default=8.0, metavar="GIB", help="what the proposal may use (default 8)")
    budget = verb.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=float,
        help="wall time of the loop, from the first start on; preparing and calibrating come on top",
    )
    budget.add_argument("--iterations", type=int, help="budget of optimiser steps (default 5000; imgx-*: 12500)")
    verb.add_argument("--resume", action="store_true", help="go on with the training in --out and its config.json")
    verb.add_argument("--device", choices=DEVICES, default="auto", help=DEVICE_HELP)
    verb.add_argument("--seed", type=int, help="seed of everything random (default 0)")
    verb.add_argument("--name", help="put the model among your own (diffseg models) under this name")
    verb.add_argument("--labels", type=Path, help="names, colours and codes of the labels: a list as in a model's card")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Train and say where the model is."""
    from DiffSegLib.models import library
    from DiffSegLib.terminal import Show, speaks
    from DiffSegLib.training.plan import make_plan
    from DiffSegLib.training.run import frozen, kept_config, train_folder

    if options.out is None and not options.plan_only:
        raise InputError("--out is needed: the folder for the training and its model.")
    if not options.plan_only:
        check_folder(options.out)
    # one budget takes the place of the other that a file has; what --set says beside it is judged
    written = [f"training.iterations={config.TrainingConfig.iterations}"] if options.minutes is not None else []
    written += [*options.set, *["training.minutes=null"] * (options.iterations is not None)]
    chosen = {key: getattr(options, key) for key in ("minutes", "iterations", "seed")}
    written += [f"training.{key}={value}" for key, value in chosen.items() if value is not None]
    open_keys: frozenset[str] = frozenset()
    if options.resume and not options.plan_only:
        settings = config.override(kept_config(options.out), written)
    else:
        settings, open_keys = config.choose(options.preset, options.config, written)
    if options.resume and not options.plan_only and settings != frozen(options.out, settings):
        text = "goes on with its own config.json; only iterations, minutes and training.patience can change"
        raise InputError(f"{options.out}: {text}.")
    labels = _labels(options.labels)
    data = {"split_file": options.split, "skip_bad": options.skip_bad, "memory": options.memory}
    show = Show()
    try:
        if options.plan_only:
            plan = make_plan(options.data, settings, open_keys, listener=show, **data)
        else:
            if options.name is not None:
                library.check_name(options.name, library.run_id(options.out))
            with _stop_asked(options.out) as cancelled:
                path = train_folder(
                    options.data,
                    options.out,
                    settings,
                    open_keys=open_keys,
                    device=options.device,
                    resume=options.resume,
                    listener=show,
                    cancelled=cancelled,
                    **data,
                )
    finally:
        show.close()
    if options.plan_only:
        print(plan.division, file=sys.stderr)
        settled = plan.settings.to_json()
        for key, why in plan.reasons.items():
            section, _, name = key.partition(".")
            print(f"{key}={json.dumps(settled[section][name])}: {why}.", file=sys.stderr)
        if not options.json:
            print(config.to_text(settled))
        return 0, {"config": settled, "fingerprint": plan.to_json()}
    return 0, _named(path, options.name, options.out, labels) if speaks() else {"model": str(path)}


@contextlib.contextmanager
def _stop_asked(run: Path) -> Iterator[Callable[[], bool]]:
    """Whether the training should stop: by Ctrl-C, or by a file `stop` in its folder, which is removed when heeded."""
    from DiffSegLib.terminal import StopFlag

    flag, file = StopFlag(), run / STOP_FILE
    try:
        yield lambda: flag() or file.exists()
    except Cancelled:
        file.unlink(missing_ok=True)
        raise
    file.unlink(missing_ok=True)  # it came too late


def _labels(path: Path | None) -> tuple[Label, ...]:
    if path is None:
        return ()
    try:
        items = enumerate(json.loads(path.read_text(encoding="utf-8-sig")))  # editors add a mark
        return tuple(Label.from_json(item, str(path), f"label[{n}]") for n, item in items)
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise InputError(f"{path}: is no list of labels ({problem}).") from None


def _named(path: Path, name: str | None, run: Path, labels: tuple[Label, ...]) -> dict[str, Any]:
    """Give a finished model its labels and its place among the others; what came of it."""
    from DiffSegLib.models import library
    from DiffSegLib.models.shipped import read_card

    if labels:
        library.relabel(path, labels)
    answer = {"model": str(path)}
    if name is not None:
        try:
            answer["named"] = str(library.add(path, name, library.run_id(run)))
        except InputError as problem:  # taken while it trained, or a full disk: the training is not lost for that
            answer["warning"] = f"The model is {path}, but it is not among your own. {problem}"
    found = read_card(path).training
    print(answer.get("warning") or f"The model is {answer.get('named', path)}.", file=sys.stderr)
    count = found["iterations"]
    score = f"{found['best_validation_dice']:.4f} after {count} iteration{'s' * (count != 1)}"
    use = shlex.join(["diffseg", "predict", "--model", str(name if "named" in answer else path)])
    print(f"Its Dice on the validation cases: {score}. To use it: {use} --input IMAGES --output MASKS", file=sys.stderr)
    return answer | {"validation_dice": found["best_validation_dice"]}
