"""The training loop: one function that a person can read from top to bottom."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from DiffSegLib import events
from DiffSegLib.config import Config
from DiffSegLib.data.patches import Prepared, case_at
from DiffSegLib.data.regions import as_regions
from DiffSegLib.data.stream import batches
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.errors import Cancelled, DiffSegError
from DiffSegLib.network.memory import is_out_of_memory
from DiffSegLib.network.precision import pick_device, pick_precision
from DiffSegLib.training import checkpoint
from DiffSegLib.training.determinism import deterministic
from DiffSegLib.training.distributed import ALONE, Group
from DiffSegLib.training.ema import update_ema
from DiffSegLib.training.log import Log
from DiffSegLib.training.rate import learning_rate
from DiffSegLib.training.step import training_loss
from DiffSegLib.training.time_sampling import TimeSampler
from DiffSegLib.training.validation import validate

MAX_SKIPPED = 20  # steps in a row without a finite loss before the training gives up
LOG_EVERY = 20  # iterations
VALIDATION_SHARE = 0.25  # of a budget in minutes at most, but for the last one: few minutes are for training
SAVE_EVERY = 600.0  # seconds between checkpoints, where no validation comes first


@dataclass(frozen=True, eq=False)
class Trained:
    """The averaged weights of the best validation, its Dice, and after how many iterations it was."""

    weights: dict[str, Tensor]
    dice: float
    iteration: int


def train(
    network: nn.Module,
    num_classes: int,
    training: list[Prepared],
    validation: list[Prepared],
    config: Config,
    run: Path,
    *,
    regions: Tensor | None = None,
    device: str = "auto",
    resume: bool = False,
    group: Group = ALONE,
    listener: events.Listener = events.silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train `network` and return the averaged weights of the best validation.

    Writes checkpoints into `run/checkpoint` and appends to `run/log.jsonl`. A training that is resumed on a CPU goes on
    bit for bit as if it had not been interrupted (with an iteration budget). Resumed with a budget that is spent, it
    takes no step more, validates the last weights if nobody did, and ends. regions: as of `data.regions.membership`,
    where classes overlap. group: the processes that share the work; each calls this function.
    """
    settings = config.training
    target = pick_device(device)
    precision = pick_precision(settings.precision, target)
    process = make_process(config.diffusion)
    network.to(target).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(target.type, enabled=precision == torch.float16)
    times = TimeSampler(config.diffusion, len(process))
    state = checkpoint.State(network, optimizer, scaler, times, config=json.loads(json.dumps(config.to_json())))
    progress = state.progress
    folder = run / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    damage = checkpoint.resume(folder, state) if resume else ""
    before, began, saved, cost = progress.seconds, time.monotonic(), time.monotonic(), 0.0
    good: list[tuple[float, float]] = []  # loss and gradient's norm of the steps since the last line of the log

    def elapsed() -> float:
        return before + time.monotonic() - began

    def fraction(iteration: int, seconds: float) -> float:
        return iteration / settings.iterations if settings.minutes is None else seconds / (60.0 * settings.minutes)

    def due(iteration: int, seconds: float) -> int:
        """How many validations belong to the budget that is spent."""
        if settings.minutes is None:  # in whole numbers: 29 / 100 * 100 is less than 29
            return min(iteration, settings.iterations) * settings.validations // settings.iterations
        return math.floor(min(fraction(iteration, seconds), 1.0) * settings.validations)

    def check() -> None:
        if group.any(cancelled()):
            raise Cancelled(f"Training was stopped; go on with --resume ({run}).")

    def save() -> None:
        nonlocal saved
        if group.first:
            progress.seconds, saved = elapsed(), time.monotonic()
            checkpoint.save(folder, state)

    # process r of R takes batch r, r + R, ... of one order of samples; `accumulate` of each make a step
    threads = 1 if target.type == "cpu" else max(1, min(4, (os.cpu_count() or 1) // group.world))
    place = progress.samples + group.rank * settings.batch
    with (
        deterministic(settings.deterministic),
        contextlib.closing(Log(run, listener, progress.iteration, group.first)) as log,
        contextlib.closing(
            batches(training, config, place, group.world * settings.batch, threads, target.type == "cuda")
        ) as stream,
    ):
        if damage:
            log(events.make("warning", text=damage))
        try:
            while True:
                seconds = group.of_first(elapsed())
                done = fraction(progress.iteration, seconds)
                wanted = due(progress.iteration, seconds) > due(
                    progress.validated_iteration, progress.validated_seconds
                )
                if settings.minutes is not None:
                    wanted &= cost <= VALIDATION_SHARE * (seconds - progress.validated_seconds)
                # a budget lowered to what is spent may owe no validation, but the last weights are judged all the same
                if wanted or (done >= 1.0 and progress.iteration > progress.validated_iteration):
                    log.progress(done, f"iteration {progress.iteration}, validating ({len(validation)})")
                    every = (state, validation, num_classes, config, target, precision)
                    watch = check if group == ALONE else lambda: None
                    score = validate(*every, regions=regions, group=group, check=watch)
                    cost = group.of_first(elapsed()) - seconds
                    done = fraction(progress.iteration, seconds + cost)
                    log(events.make("metric", iteration=progress.iteration, **score, seconds=round(elapsed(), 1)))
                    if progress.judge(score["dice"], seconds) and group.first:
                        checkpoint.save_best(folder, state)
                    if progress.stale == settings.patience:
                        text = f"Stopped early: {progress.stale} validations without a better Dice than "
                        text += f"{progress.best_dice:.4f} at iteration {progress.best_iteration}."
                        log(events.make("log", iteration=progress.iteration, text=text))
                    save()
                if done >= 1.0 or (settings.patience is not None and progress.stale >= settings.patience):
                    break
                if time.monotonic() - saved > SAVE_EVERY:
                    save()

                rate = learning_rate(done, config)
                for parameters in optimizer.param_groups:
                    parameters["lr"] = rate
                total, index, per_sample = torch.zeros((), device=target), [], []
                for _ in range(settings.accumulate):
                    check()
                    positions, image, label = next(stream)
                    image, label = image.to(target, non_blocking=True), label.to(target, non_blocking=True)
                    truth = label if regions is None else as_regions(label, regions)
                    loss = training_loss(
                        network, image, truth, num_classes, process, config, times, positions, precision
                    )
                    scaler.scale(loss.mean / settings.accumulate).backward()
                    total += loss.mean.detach() / settings.accumulate
                    index.append(loss.index)
                    per_sample.append(loss.per_sample.cpu())
                value = group.average_gradients(network.parameters(), total)
                scaler.unscale_(optimizer)
                norm = float(nn.utils.clip_grad_norm_(network.parameters(), settings.clip))

                samples = range(progress.samples, progress.samples + settings.accumulate * group.world * settings.batch)
                if math.isfinite(value) and math.isfinite(norm):
                    scaler.step(optimizer)
                    update_ema(state.ema, network, settings.ema, progress.iteration)
                    times.update(group.gather(torch.stack(index)), group.gather(torch.stack(per_sample)))
                    good.append((value, norm))
                    progress.skipped = 0
                elif math.isfinite(value) and scaler.get_scale() > 1.0:  # the scaler's to mend: it halves its scale
                    text = f"Iteration {progress.iteration}: a gradient overflowed in half precision; skipped."
                    log(events.make("log", iteration=progress.iteration, text=text))
                else:
                    progress.skipped += 1
                    text = f"Iteration {progress.iteration}: the loss or its gradient was not finite; skipped."
                    log(events.make("warning", iteration=progress.iteration, text=text))
                    if progress.skipped >= MAX_SKIPPED:
                        raise group.told(_failure(run, progress.skipped, training, settings.seed, samples))
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                progress.iteration += 1
                progress.samples = samples.stop

                done = max(fraction(progress.iteration, elapsed()), 1e-9)
                left = elapsed() * max(1.0 - done, 0.0) / done
                clock = f"{left / 60:.0f} min" if left >= 120 else f"{left:.0f} s"
                log.progress(done, f"iteration {progress.iteration}, loss {value:.3f}, {clock} left")
                if progress.iteration % LOG_EVERY == 0 and good:
                    means = dict(zip(("loss", "gradient_norm"), np.mean(good, axis=0).tolist(), strict=True))
                    means |= {"learning_rate": rate, "seconds": round(elapsed(), 1), "seconds_left": round(left, 1)}
                    log(events.make("metric", iteration=progress.iteration, **means))
                    good.clear()
        except Cancelled as stop:
            save()
            raise group.told(stop) from None
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
            save()
            text = "memory is not enough; train anew with a smaller training.batch (and as much more"
            raise DiffSegError(
                f"{run}: {text} training.accumulate), a smaller data.patch, or network.checkpointing."
            ) from None
        group.any(False)  # wait until the first process has written them
        damage = checkpoint.load_best(folder, state)
        if damage:
            log(events.make("warning", text=damage))
        if group.any(bool(damage)):  # one validates as all do
            every = (state, validation, num_classes, config, target, precision)
            score = validate(*every, regions=regions, group=group, check=check if group == ALONE else lambda: None)
            progress.best_dice, progress.best_iteration = score["dice"], progress.iteration
    return Trained(state.ema, progress.best_dice, progress.best_iteration)


def _failure(run: Path, times: int, cases: list[Prepared], seed: int, samples: range) -> DiffSegError:
    names = sorted({case_at(cases, seed, position).name for position in samples})
    return DiffSegError(
        f"{run}: the loss was not finite {times} times in a row, last with {', '.join(names[:10])}; look at these "
        "cases, or lower training.learning_rate."
    )
