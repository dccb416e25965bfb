"""The speed of this machine: what a network's pass, five diffusion steps and a training step cost, in one run.

Ratios within one run are what counts; the rounds are interleaved, so that a machine that slows down slows all alike.
"""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from DiffSegLib import events
from DiffSegLib.config import Config, DiffusionConfig, NetworkConfig
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.inference.ladder import CPU
from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.network.build import build
from DiffSegLib.network.precision import autocast, pick_device, pick_precision, ready
from DiffSegLib.training.step import training_loss
from DiffSegLib.training.time_sampling import TimeSampler
from DiffSegLib.tuning import give_back

SHAPE, CLASSES = (64, 64, 64), 3
Row = dict[str, float | str]


@dataclass(frozen=True, eq=False)
class Contestant:
    """What is measured: `work` runs `network` on one volume of SHAPE with CLASSES."""

    name: str
    network: nn.Module
    work: Callable[[], object]


def run(name: str, rounds: int, listener: events.Listener = events.silent) -> dict[str, Any]:
    """rows, ceilings, precision and machine: of our own networks on a device of that name."""
    device = pick_device(name)
    precision = pick_precision("auto", device)
    most = ceilings(device, precision)
    rows = measure(own(device, precision), rounds, device, listener)
    found = {"rows": rows, "ceilings": most, "precision": str(precision).removeprefix("torch.")}
    return {**found, "machine": machine(device)}


def machine(device: torch.device) -> str:
    """What is measured, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def processor() -> str:
    """What the system calls its processor."""
    with suppress(OSError, IndexError):  # Linux
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name")[1].splitlines()[0].strip("\t :")
    return platform.processor() or platform.machine()


def measure(
    contestants: Sequence[Contestant], rounds: int, device: torch.device, listener: events.Listener = events.silent
) -> list[Row]:
    """A row for each contestant: wall and processor seconds (medians), range, FLOPs, parameters, peak memory.

    memory_mb: above what the process held before, where the system tells (Linux, CUDA), else NaN.
    """
    taken: dict[str, list[tuple[float, float]]] = {each.name: [] for each in contestants}
    flops: dict[str, float] = {}
    memory: dict[str, float] = {}
    for n in range(rounds + 1):  # the first round warms up, counts FLOPs and memory, and no time
        for each in contestants:
            listener(events.make("progress", fraction=n / (rounds + 1), text=f"round {n} of {rounds}: {each.name}"))
            if n > 0:
                taken[each.name].append(_once(each.work, device))
                continue
            before = restart_peak(device)
            with FlopCounterMode(display=False) as counter:
                each.work()
            flops[each.name] = float(counter.get_total_flops())
            memory[each.name] = (peak_memory(device) - before) / 1e6
    listener(events.make("progress", fraction=1.0, text=f"{rounds} of {rounds} rounds"))
    rows: list[Row] = []
    for each in contestants:
        wall, processor = (list(values) for values in zip(*taken[each.name], strict=True))
        size = float(sum(p.numel() for p in each.network.parameters()))
        row: Row = {"what": each.name, "parameters": size, "seconds": statistics.median(wall), "fastest": min(wall)}
        row |= {"slowest": max(wall), "cpu_seconds": statistics.median(processor)}
        rows.append(row | {"gflop": flops[each.name] / 1e9, "memory_mb": memory[each.name]})
    return rows


def ceilings(device: torch.device, precision: torch.dtype) -> dict[str, float]:
    """What the machine can do at most: TFLOP/s of the fastest of several large convolutions, GB/s of a copy."""
    rates = []
    for channels, edge in ((64, 64), (128, 32), (256, 16)):
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            shapes = (1, channels, edge, edge, edge), (channels, channels, 3, 3, 3)
            x, weight = (torch.randn(n).to(device, precision).contiguous(memory_format=layout) for n in shapes)
            convolve = partial(nn.functional.conv3d, x, weight, padding=1)
            fastest = min(_once(convolve, device)[0] for _ in range(6))
            rates.append(2 * 27 * channels**2 * edge**3 / fastest / 1e12)
    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)
    copied = min(_once(lambda: target.copy_(source), device)[0] for _ in range(6))
    return {"tflops": max(rates), "gigabytes_per_second": 2 * source.nbytes / copied / 1e9}


def own(device: torch.device, precision: torch.dtype) -> list[Contestant]:
    """The supervised twin's one pass, then five steps and a recycling training step of `unet` and `cached`."""
    config = NetworkConfig()
    found = []
    for name in ("unet", "cached"):
        shape = replace(config, name=name)
        twin = build(shape, 1, CLASSES, DiffusionConfig(strategy="supervised")).to(device).eval()
        network = build(shape, 1, CLASSES).to(device)
        found += [
            Contestant(f"{name}, supervised twin, one pass", twin, one_pass(twin, device, precision)),
            Contestant(f"{name}, five diffusion steps", network, five_steps(network, device, precision)),
            Contestant(f"{name}, training step with recycling", network, training_step(network, device, precision)),
        ]
    return found


def an_image(device: torch.device) -> Tensor:
    """(1, 1, *SHAPE)."""
    return torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0)).to(device)


def one_pass(network: nn.Module, device: torch.device, precision: torch.dtype) -> Callable[[], object]:
    """Of a supervised network."""
    image, network = an_image(device), ready(network, device, precision)

    def work() -> object:
        with torch.inference_mode(), autocast(device, precision):
            return network(image)

    return work


def five_steps(network: nn.Module, device: torch.device, precision: torch.dtype) -> Callable[[], object]:
    """As a prediction does them."""
    image = an_image(CPU)[0]
    factors = NetworkConfig().factors
    options: dict[str, Any] = {"device": device, "precision": precision, "every_step": False}
    sampling = Sampling(ready(network, device, precision), CLASSES, SHAPE, factors, DiffusionConfig(), **options)

    return lambda: next(sampling.volumes(image))


def training_step(network: nn.Module, device: torch.device, precision: torch.dtype) -> Callable[[], object]:
    """Training's own step with x_T-recycling for a batch of one: both passes, loss, gradient, clipping, optimiser.

    Its rate is 0, so that the other contestants of a network find it as it was. What comes before (data) and after
    (average of the weights) is left out.
    """
    settings = Config()
    image, process = an_image(device), make_process(settings.diffusion)
    label = torch.randint(CLASSES, (1, *SHAPE), generator=torch.Generator().manual_seed(1)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    times = TimeSampler(settings.diffusion, len(process))

    def work() -> None:
        network.train()
        training_loss(network, image, label, CLASSES, process, settings, times, [0], precision).mean.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def _once(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall seconds and processor seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began, used = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - used


def restart_peak(device: torch.device = CPU) -> float:
    """Let `peak_memory` begin anew; returns the bytes that are held now. NaN on a CPU where the system is no Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    give_back()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_memory(device: torch.device = CPU) -> float:
    """Bytes that this process held at most; NaN on a CPU where the system is no Linux."""
    return float(torch.cuda.max_memory_allocated()) if device.type == "cuda" else _status("VmHWM")


def _status(key: str) -> float:
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024.0 * float(text.split(f"{key}:")[1].split()[0])
    return math.nan
