"""A training from a data folder to a model file."""

import json
import os
import platform
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DiffSegLib import __version__, config, events
from DiffSegLib.config import Config
from DiffSegLib.data.cache import prepare_cases
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.models import store
from DiffSegLib.models.card import card_of
from DiffSegLib.network.build import build
from DiffSegLib.training.loop import train
from DiffSegLib.training.plan import make_plan
from DiffSegLib.training.proposal import MEMORY


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
    `memory` GiB; the outcome is frozen in `run/config.json`, its grounds in `run/fingerprint.json`.
    """

    def report(event: events.Event) -> None:
        if cancelled():
            raise Cancelled("Training was stopped before it began.")
        listener(event)

    if resume:
        settings, open_keys = _frozen(run, settings), ()
    elif (run / "config.json").exists():
        raise InputError(f"{run}: already holds a training; go on with --resume or choose another folder.")
    plan = make_plan(
        data, settings, open_keys, split_file=split_file, skip_bad=skip_bad, memory=memory, listener=report
    )
    dataset, settings = plan.dataset, plan.settings
    if not resume:
        write_json(run / "fingerprint.json", plan.to_json())
        write_json(run / "config.json", settings.to_json())
    cache = run / "cache"
    cases = plan.training + plan.validation
    prepared = prepare_cases(dataset, cases, plan.facts, settings.data, cache, report)
    training, validation = prepared[: len(plan.training)], prepared[len(plan.training) :]
    num_classes = len(dataset.labels) + 1
    torch.manual_seed(settings.training.seed)
    network = build(settings.network, len(dataset.channels), num_classes, settings.diffusion)
    weights = train(
        network,
        num_classes,
        training,
        validation,
        settings,
        run,
        device=device,
        resume=resume,
        listener=listener,
        cancelled=cancelled,
    )
    sizes = np.array([np.multiply(case.label.shape, case.spacing) for case in training])
    card = card_of(
        settings,
        name=run.resolve().name,
        labels=dataset.labels,
        channels=dataset.channels,
        description=f"Trained on {dataset.name}.",
        licence=dataset.licence,
        seed=settings.training.seed,
        expects={"channels": list(dataset.channels), "field_of_view_mm": np.median(sizes, axis=0).round(1).tolist()},
        training={
            "dataset": dataset.name,
            "licence": dataset.licence,
            "reference": dataset.reference,
            "train_cases": len(training),
            "validation_cases": len(validation),
            "best_validation_dice": _best_dice(run),
        },
        versions={"diffseg": __version__, "torch": torch.__version__, "python": platform.python_version()},
    )
    path = run / "model.safetensors"
    store.save(path, weights, card)
    del prepared, training, validation  # the mapped files must be closed before they can be removed on Windows
    shutil.rmtree(cache, ignore_errors=True)
    return path


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file, and its folder where there is none, aside first and then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(config.to_text(data) + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as problem:
        raise InputError(f"{path}: cannot be written ({problem.strerror or problem}).") from None


def _frozen(run: Path, settings: Config) -> Config:
    """The configuration that a training goes on with: as it was, with the budget that is asked for now."""
    path = run / "config.json"
    if not path.is_file():
        raise InputError(f"{run}: holds no training to resume (no config.json).")
    kept, wanted = config.load(path), settings.training
    return replace(kept, training=replace(kept.training, iterations=wanted.iterations, minutes=wanted.minutes))


def _best_dice(run: Path) -> Any:
    found = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = [event["dice"] for event in found if "dice" in event]
    return round(max(scores), 4) if scores else None
