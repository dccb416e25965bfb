"""What an iteration of each arm costs on this machine, measured in one sitting so that all arms are measured alike."""

import contextlib
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import study
from DiffSegLib import config
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.network.build import build
from DiffSegLib.network.precision import pick_precision
from DiffSegLib.training.step import training_loss
from DiffSegLib.training.time_sampling import TimeSampler
from DiffSegLib.whole_files import write_text

ROUNDS = 5  # after one that warms up
CLASSES = 3


def costs(file: Path) -> dict[str, float]:
    """Processor seconds of an iteration by arm, on one thread; kept in `file` with a mark of the settings.

    The rounds are interleaved: other work on the machine slows all arms alike. The median counts. Where an arm is
    missing or has other settings than when it was measured, all are measured again.
    """
    settings = {arm: study.settings(arm, 0) for arm in study.arms()}
    marks = {arm: _mark(each) for arm, each in settings.items()}
    kept = _kept(file)
    if any(kept.get(arm, {}).get("settings") != mark for arm, mark in marks.items()):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        steps = {arm: _step(each) for arm, each in settings.items()}
        taken: dict[str, list[float]] = {arm: [] for arm in steps}
        for n in range(ROUNDS + 1):
            for arm, step in steps.items():
                began = time.process_time()
                step()
                taken[arm] += [time.process_time() - began] * (n > 0)
        torch.set_num_threads(threads)
        file.parent.mkdir(parents=True, exist_ok=True)
        medians = {arm: round(statistics.median(seconds), 4) for arm, seconds in taken.items()}
        kept = {arm: {"seconds": seconds, "settings": marks[arm]} for arm, seconds in medians.items()}
        write_text(file, json.dumps(kept, indent=1) + "\n")
    return {arm: kept[arm]["seconds"] for arm in settings}


def _mark(settings: config.Config) -> str:
    return hashlib.sha256(config.to_text(settings.to_json()).encode()).hexdigest()[:16]


def _kept(file: Path) -> dict[str, dict[str, Any]]:
    """Arm -> seconds and mark; without those that an older version measured, which kept the seconds alone."""
    with contextlib.suppress(FileNotFoundError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {arm: each for arm, each in kept.items() if isinstance(each, dict)}
    return {}


def _step(settings: config.Config) -> Callable[[], None]:
    """An iteration on noise: loss and gradient of as many batches as are added up, clipping, optimiser.

    Its rate is 0: the weights stay what they are.
    """
    precision = pick_precision(settings.training.precision, torch.device("cpu"))
    network = build(settings.network, 1, CLASSES, settings.diffusion).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=True)
    process = make_process(settings.diffusion)
    times = TimeSampler(settings.diffusion, len(process))
    batch = range(settings.training.batch)
    image = torch.randn(len(batch), 1, *settings.data.patch)
    label = torch.randint(0, CLASSES, (len(batch), *settings.data.patch))

    def work() -> None:
        for _ in range(settings.training.accumulate):
            loss = training_loss(network, image, label, CLASSES, process, settings, times, batch, precision)
            loss.mean.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work
