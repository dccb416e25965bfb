"""The training loop: one function that a person can read from top to bottom."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from DiffSegLib import events
from DiffSegLib.config import Config
from DiffSegLib.data.patches import Prepared, batch_of
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.errors import Cancelled, DiffSegError
from DiffSegLib.inference.windows import sample_volume
from DiffSegLib.network.precision import pick_device, pick_precision
from DiffSegLib.training import checkpoint
from DiffSegLib.training.losses import check_losses
from DiffSegLib.training.step import training_loss
from DiffSegLib.training.time_sampling import TimeSampler

MAX_SKIPPED = 20  # steps in a row without a finite loss before the training gives up
LOG_EVERY = 20


@dataclass
class Progress:
    """What a resumed training must know besides weights and optimiser."""

    iteration: int = 0
    seconds: float = 0.0
    best_dice: float = -1.0
    validations: int = 0
    time_history: dict[str, Any] = field(default_factory=dict)


def train(
    network: nn.Module,
    num_classes: int,
    training: list[Prepared],
    validation: list[Prepared],
    config: Config,
    run: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    listener: events.Listener = events.silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Tensor]:
    """Train `network` and return the averaged weights of the best validation.

    Writes `run/checkpoint/last.safetensors` and `best.safetensors` and appends to `run/log.jsonl`. A training that is
    resumed on a CPU goes on bit for bit as if it had not been interrupted (with an iteration budget).
    """
    check_losses(config)
    target = pick_device(device)
    precision = pick_precision(config.training.precision, target)
    network.to(target).train()
    settings = config.training
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    scaler = torch.amp.GradScaler(target.type, enabled=precision == torch.float16)
    ema = {key: value.detach().clone() for key, value in network.state_dict().items()}
    progress = Progress()
    folder = run / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (folder / "last.safetensors").is_file():
        progress = Progress(**checkpoint.load(folder / "last.safetensors", network, ema, optimizer))
    process = make_process(config.diffusion)
    times = TimeSampler(config.diffusion, len(process), progress.time_history)
    log = _Log(run / "log.jsonl", listener)
    before, began = progress.seconds, time.monotonic()
    skipped = 0

    def elapsed() -> float:
        return before + time.monotonic() - began

    def done() -> float:
        if settings.minutes is None:
            return progress.iteration / settings.iterations
        return elapsed() / (60.0 * settings.minutes)

    def save(name: str) -> None:
        progress.seconds, progress.time_history = elapsed(), times.state
        checkpoint.save(folder / name, network, ema, optimizer, vars(progress))

    while (fraction := done()) < 1.0:
        if cancelled():
            save("last.safetensors")
            raise Cancelled(f"Training was stopped; go on with --resume ({run}).")
        rate = learning_rate(fraction, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        image, label = batch_of(
            training, config.data, config.augment, settings.batch, settings.seed, progress.iteration
        )
        loss = training_loss(
            network,
            image.to(target),
            label.to(target),
            num_classes,
            process,
            config,
            times,
            progress.iteration,
            precision,
        )
        times.update(loss.index, loss.per_sample)
        scaler.scale(loss.mean).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        value = float(loss.mean.detach())
        if math.isfinite(value) and math.isfinite(float(norm)):
            scaler.step(optimizer)
            skipped = 0
        else:
            skipped += 1
            log.write(events.make("warning", text=f"Iteration {progress.iteration}: the loss was not finite; skipped."))
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if skipped >= MAX_SKIPPED:
            raise DiffSegError(
                f"The loss was not finite {skipped} times in a row; lower training.learning_rate ({run})."
            )
        update_ema(ema, network, settings.ema, progress.iteration)
        progress.iteration += 1
        if progress.iteration % LOG_EVERY == 0:
            numbers = {"iteration": progress.iteration, "loss": value, "learning_rate": rate}
            log.write(events.make("metric", **numbers, seconds=round(elapsed(), 1)))
            left = elapsed() * (1.0 - done()) / max(done(), 1e-9)
            text = f"iteration {progress.iteration}, loss {value:.3f}, {left / 60:.0f} min left"
            listener(events.make("progress", fraction=min(done(), 1.0), text=text))
        if done() >= (progress.validations + 1) / settings.validations or done() >= 1.0:
            progress.validations = max(progress.validations + 1, math.floor(done() * settings.validations))
            score = validate(network, ema, validation, num_classes, config, target, precision)
            log.write(events.make("metric", iteration=progress.iteration, **score, seconds=round(elapsed(), 1)))
            if score["dice"] > progress.best_dice:
                progress.best_dice = score["dice"]
                save("best.safetensors")
            save("last.safetensors")
    checkpoint.load(folder / "best.safetensors", network, ema, optimizer)
    return ema


def learning_rate(fraction: float, config: Config) -> float:
    """Linear warm-up, a cosine from `learning_rate` to `learning_rate_end` at `decay`, then flat; fraction 0..1."""
    settings = config.training
    if fraction < settings.warmup:
        rise = (settings.learning_rate - settings.learning_rate_start) * fraction / settings.warmup
        return max(settings.learning_rate_start + rise, 0.01 * settings.learning_rate)
    angle = math.pi * min((fraction - settings.warmup) / (settings.decay - settings.warmup), 1.0)
    span = settings.learning_rate - settings.learning_rate_end
    return settings.learning_rate_end + 0.5 * span * (1.0 + math.cos(angle))


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], network: nn.Module, decay: float, iteration: int) -> None:
    """In place: ema <- decay ema + (1 - decay) weights, with a smaller decay at the start (1 + n) / (10 + n)."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            ema[key].lerp_(value, 1.0 - decay)
        else:
            ema[key].copy_(value)


@torch.no_grad()
def validate(
    network: nn.Module,
    ema: dict[str, Tensor],
    cases: list[Prepared],
    num_classes: int,
    config: Config,
    device: torch.device,
    precision: torch.dtype,
    steps: int = 5,
) -> dict[str, Any]:
    """Mean Dice of the averaged weights at the first and the last step, on the network's grid, seed 0."""
    own = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(ema)
    network.eval()
    factors = tuple(int(n) for n in np.prod(np.array(config.network.strides), axis=0))
    scores: list[list[list[float]]] = []
    for case in cases:
        run = sample_volume(
            network,
            case.image,
            num_classes,
            config.data.patch,
            factors,
            config.diffusion,
            steps=min(steps, config.diffusion.timesteps),
            device=device,
            precision=precision,
        )
        scores.append([class_dice(p.argmax(0), case.label, num_classes) for p in run])
    network.load_state_dict(own)
    network.train()
    by_step = np.nanmean(np.array(scores), axis=(0, 2))
    by_class = np.nanmean(np.array(scores)[:, -1], axis=0)
    return {
        "dice": float(by_step[-1]),
        "dice_first_step": float(by_step[0]),
        "dice_by_class": [round(float(x), 4) for x in by_class],
    }


def class_dice(mask: Tensor, label: Tensor, num_classes: int) -> list[float]:
    """Dice of each foreground class; NaN where it is in neither."""
    out = []
    for n in range(1, num_classes):
        a, b = mask == n, label == n
        size = int(a.sum() + b.sum())
        out.append(2.0 * int((a & b).sum()) / size if size else math.nan)
    return out


class _Log:
    """Appends events to a file, a line each, and passes them on."""

    def __init__(self, path: Path, listener: events.Listener) -> None:
        self.path, self.listener = path, listener

    def write(self, event: events.Event) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self.listener(event)
