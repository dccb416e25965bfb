"""A training from a data folder to a model file."""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DiffSegLib import __version__, config, events
from DiffSegLib.config import Config
from DiffSegLib.data import files
from DiffSegLib.data.datasets import Case, Dataset, load_dataset
from DiffSegLib.data.patches import Prepared, prepare
from DiffSegLib.data.preprocess import label_to_model_space, to_model_space
from DiffSegLib.data.splits import split
from DiffSegLib.errors import InputError
from DiffSegLib.models import store
from DiffSegLib.models.card import card_of
from DiffSegLib.network.build import build
from DiffSegLib.training.loop import train


def train_folder(
    data: Path,
    run: Path,
    settings: Config,
    *,
    split_file: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    listener: events.Listener = events.silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Train on a labelled folder and write `run/model.safetensors`, whose path is returned.

    Every case is read and checked before training starts; all problems are listed at once in one InputError.
    """
    dataset = load_dataset(data)
    train_cases, validation_cases = split(dataset, split_file, settings.training.seed)
    settings = _open_run(run, settings, resume)
    prepared = prepare_cases(dataset, train_cases + validation_cases, settings, listener)
    training, validation = prepared[: len(train_cases)], prepared[len(train_cases) :]
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
    return path


def prepare_cases(
    dataset: Dataset, cases: list[Case], settings: Config, listener: events.Listener = events.silent
) -> list[Prepared]:
    """Read, check and normalise cases; raises one InputError that lists every bad one."""
    values = {0: 0} | {label.value: n + 1 for n, label in enumerate(dataset.labels)}
    prepared, problems = [], []
    for n, case in enumerate(cases):
        listener(events.make("progress", fraction=0.0, text=f"reading case {n + 1} of {len(cases)}"))
        try:
            prepared.append(prepare_case(case, values, settings))
        except InputError as problem:
            problems.append(str(problem))
    if problems:
        raise InputError(
            f"{dataset.folder}: {len(problems)} of {len(cases)} cases cannot be used: " + " ".join(problems)
        )
    return prepared


def prepare_case(case: Case, values: dict[int, int], settings: Config) -> Prepared:
    """One case on the network's grid; `values` maps label values to class indices."""
    volume = files.read(case.images[0])
    label, affine = files.read_label(case.label)
    if volume.array.shape[1:] != label.shape or np.abs(volume.affine - affine).max() > 1e-3 * max(volume.spacing):
        raise InputError(f"{case.label}: does not lie on the grid of its image {case.images[0].name}.")
    unknown = sorted(set(np.unique(label).tolist()) - set(values))
    if unknown:
        raise InputError(f"{case.label}: holds label {unknown[0]}, which dataset.json does not name.")
    table = np.zeros(256, dtype=np.uint8)
    for value, index in values.items():
        table[value] = index
    image, grid = to_model_space(volume, settings.data)
    native = tuple(volume.spacing[axis] for axis in grid.orientation.axes)
    spacing = tuple(s * n / m for s, n, m in zip(native, grid.shape, image.shape[1:], strict=True))
    return prepare(case.name, image, label_to_model_space(table[label], affine, settings.data), spacing)


def _open_run(run: Path, settings: Config, resume: bool) -> Config:
    """Create the run folder and freeze its configuration, or take the frozen one to go on."""
    frozen = run / "config.json"
    if resume:
        if not frozen.is_file():
            raise InputError(f"{run}: holds no training to resume (no config.json).")
        kept = config.load(frozen)
        wanted = settings.training
        budget = replace(kept.training, iterations=wanted.iterations, minutes=wanted.minutes)
        return replace(kept, training=budget)
    if frozen.exists():
        raise InputError(f"{run}: already holds a training; go on with --resume or choose another folder.")
    try:
        run.mkdir(parents=True, exist_ok=True)
        aside = run / f".config.json.{os.getpid()}.part"
        aside.write_text(json.dumps(settings.to_json(), indent=2) + "\n", encoding="utf-8")
        os.replace(aside, frozen)
    except OSError as problem:
        raise InputError(f"{run}: cannot be written ({problem.strerror or problem}).") from None
    return settings


def _best_dice(run: Path) -> Any:
    found = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = [event["dice"] for event in found if "dice" in event]
    return round(max(scores), 4) if scores else None
