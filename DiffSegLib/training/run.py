"""A training from a data folder to a model file."""

import math
import platform
import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DiffSegLib import __version__, config, events
from DiffSegLib.config import Config
from DiffSegLib.data.cache import prepare_cases
from DiffSegLib.data.patches import Prepared
from DiffSegLib.data.regions import membership
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.models import store
from DiffSegLib.models.card import Card, card_of
from DiffSegLib.network.build import build
from DiffSegLib.network.precision import pick_device
from DiffSegLib.schema import read_json
from DiffSegLib.training import distributed
from DiffSegLib.training.calibration import Answers, at_an_end, fit_smoothing, fit_temperature
from DiffSegLib.training.lock import locked
from DiffSegLib.training.loop import Trained, train
from DiffSegLib.training.plan import Plan, make_plan
from DiffSegLib.training.proposal import MEMORY
from DiffSegLib.whole_files import write_text

DATA = ("dimensions", "cases", "spacing_mm", "shape_voxels", "labels", "channels")  # of a fingerprint.json
BUDGET = ("iterations", "minutes", "patience")  # of `training`: what a resumed training may change


def train_folder(
    data: Path,
    run: Path,
    settings: Config,
    *,
    open_keys: Collection[str] = (),
    split_file: Path | None = None,
    skip_bad: bool = False,
    memory: float = MEMORY,
    device: str = "auto",
    resume: bool = False,
    listener: events.Listener = events.silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Train on a labelled folder and write `run/model.safetensors`, whose path is returned.

    Every case is read and checked before training starts; all problems are listed at once in one InputError, or with
    `skip_bad` told as warnings. open_keys: settings that the data's fingerprint decides (see `config.choose`), within
    `memory` GiB; the outcome is frozen in `run/config.json`, its grounds in `run/fingerprint.json`. With `resume` the
    frozen configuration goes on with the frozen split, and of `settings` only BUDGET counts. Raises InputError where
    another process is training in `run`. Under torchrun each process calls this function, and the first one writes.
    """
    pick_device(device)  # before anything is written
    with distributed.join(device) as group, ExitStack() as held:
        listener = listener if group.first else events.silent

        def report(event: events.Event) -> None:
            if cancelled():
                raise Cancelled("Training was stopped before it began.")
            listener(event)

        def stop() -> None:
            if cancelled():
                raise Cancelled("Training was stopped before its model was written; it can be resumed.")

        with group.together():
            if resume:
                settings, open_keys, split_file = frozen(run, settings), (), run / "split.json"
            if group.first:
                held.enter_context(locked(run))
                if not resume and (run / "config.json").exists():
                    raise InputError(f"{run}: already holds a training; go on with --resume or choose another folder.")
        with group.together():
            plan = make_plan(
                data,
                settings,
                open_keys,
                split_file=split_file,
                skip_bad=skip_bad,
                frozen=resume,
                memory=memory,
                listener=report,
            )
            dataset, settings = plan.dataset, plan.settings
            report(events.make("log", text=plan.division))
            if resume:
                _check_data(run, data, plan)
            if group.first and not resume:
                parts = {"train": plan.training, "val": plan.validation}
                split = {part: [case.name for case in some] for part, some in parts.items()}
                frozen_files = {"fingerprint": plan.to_json(), "split": split, "config": settings.to_json()}
                for name, content in frozen_files.items():
                    write_text(run / f"{name}.json", config.to_text(content) + "\n")
        cases = plan.training + plan.validation
        prepared: list[Prepared] = []
        for turn in (True, False):  # the first process fills the cache, the others find it full
            with group.together():
                if group.first == turn:
                    prepared = prepare_cases(dataset, cases, plan.facts, settings.data, run / "cache", report)
        training, validation = prepared[: len(plan.training)], prepared[len(plan.training) :]
        torch.manual_seed(settings.training.seed)
        network = build(settings.network, len(dataset.channels), dataset.num_classes, settings.diffusion)
        trained = train(
            network,
            dataset.num_classes,
            training,
            validation,
            settings,
            run,
            regions=membership(dataset),
            device=device,
            resume=resume,
            group=group,
            listener=listener,
            cancelled=cancelled,
        )
        path = run / "model.safetensors"
        with group.together():
            if group.first:
                listener(events.make("progress", fraction=1.0, text="calibrating"))
                place = pick_device(device)
                network.load_state_dict(trained.weights)
                answers = Answers(
                    network.to(place), validation, dataset.num_classes, settings, place, membership(dataset), stop
                )
                smoothing = fit_smoothing(answers) if settings.training.smoothing else 0.0
                temperature = fit_temperature(answers, smoothing)
                if text := at_an_end(smoothing, temperature):
                    listener(events.make("warning", text=text))
                card = _card(run, plan, training, trained, smoothing=smoothing, temperature=temperature)
                store.save(path, trained.weights, card)
        del prepared, training, validation  # the mapped files must be closed before they can be removed on Windows
        if group.first:
            shutil.rmtree(run / "cache", ignore_errors=True)
    return path


def kept_config(run: Path) -> Config:
    """The configuration of the training in a run folder. Raises InputError where there is none."""
    path = run / "config.json"
    if not path.is_file():
        raise InputError(f"{run}: holds no training to resume (no config.json).")
    return config.load(path)


def frozen(run: Path, settings: Config) -> Config:
    """The configuration that a training goes on with: as it was, with the budget of `settings`."""
    kept = kept_config(run)
    budget = {key: getattr(settings.training, key) for key in BUDGET}
    return replace(kept, training=replace(kept.training, **budget))


def _check_data(run: Path, data: Path, plan: Plan) -> None:
    """Raise InputError where the data are not those of the training in `run`; their folder may have moved."""
    path = run / "fingerprint.json"
    if not path.is_file():
        return
    kept, found = read_json(path), plan.to_json()
    contents = found["contents_crc32"]
    if not isinstance(known := kept.get("contents_crc32", {}), dict):
        raise InputError(f"{path}: its contents_crc32 must be an object with named values.")
    changed = [name for name in known if contents.get(name, known[name]) != known[name]]
    cases = f"; changed: {', '.join(changed[:3] + ['...'] * (len(changed) > 3))}" if changed else ""
    for key in (key for key in DATA if key in kept):
        if not _alike(kept[key], found[key]):
            text = f"is not the data that the training in {run} began with (its {key} differ, see {path}{cases})"
            raise InputError(f"{data}: {text}; name that folder, or start anew in another run folder.")
    if changed:
        text = f"image or label of case {changed[0]} is not the one that the training in {run} began with"
        raise InputError(f"{data}: {text}; put it back, or start anew in another run folder.")


def _alike(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same but for rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-3)
    return bool(one == other)


def _card(run: Path, plan: Plan, training: list[Prepared], trained: Trained, **fitted: float) -> Card:
    dataset, settings = plan.dataset, plan.settings
    sizes = np.array([np.multiply(case.label.shape, case.spacing) for case in training])
    return card_of(
        settings,
        name=run.resolve().name,
        labels=dataset.labels,
        channels=dataset.channels,
        regions=dataset.regions,
        **fitted,
        description=f"Trained on {dataset.name}.",
        licence=dataset.licence,
        seed=settings.training.seed,
        expects={"channels": list(dataset.channels), "field_of_view_mm": np.median(sizes, axis=0).round(1).tolist()},
        training={
            "dataset": dataset.name,
            "licence": dataset.licence,
            "reference": dataset.reference,
            "train_cases": len(plan.training),
            "validation_cases": len(plan.validation),
            "iterations": trained.iteration,
            "best_validation_dice": round(trained.dice, 4),
        },
        versions={"diffseg": __version__, "torch": torch.__version__, "python": platform.python_version()},
    )
