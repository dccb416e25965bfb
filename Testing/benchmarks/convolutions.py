"""How near to the machine's limit the convolutions alone are, and how much of the time goes into them."""

import math
from collections.abc import Sequence

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from DiffSegLib.training.bench import Contestant, Row

ROUNDS = 3  # the fastest counts


def add_convolutions(rows: Sequence[Row], contestants: Sequence[Contestant], device: torch.device) -> None:
    """Put into each row the FLOPs of its contestant's convolutions and the seconds that torch's profiler finds in them.

    convolution_gflop, convolution_seconds: with their backward pass. profiled_seconds: of all operations in that run.
    """
    for row, each in zip(rows, contestants, strict=True):
        with FlopCounterMode(display=False) as counter:
            each.work()
        counts = counter.get_flop_counts()["Global"]
        row["convolution_gflop"] = sum(n for name, n in counts.items() if "convolution" in str(name)) / 1e9
        row["convolution_seconds"] = row["profiled_seconds"] = math.inf
        for _ in range(ROUNDS):
            alone, everything = _seconds(each, device)
            if everything < row["profiled_seconds"]:
                row["convolution_seconds"], row["profiled_seconds"] = alone, everything


def _seconds(contestant: Contestant, device: torch.device) -> tuple[float, float]:
    """Of the convolutions, and of everything."""
    kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device.type == "cuda")]
    with profile(activities=kinds) as seen:
        contestant.work()
        if device.type == "cuda":
            torch.cuda.synchronize()
    name = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    taken = {event.key: getattr(event, name) / 1e6 for event in seen.key_averages()}
    alone = sum(seconds for key, seconds in taken.items() if "convolution" in key or "slow_conv" in key)
    return alone, sum(taken.values())
