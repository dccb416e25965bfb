"""The speed of this machine: training step and five-step inference of our networks beside others, in one run.

Ratios within one run are what counts; the rounds are interleaved, so that a machine that slows down slows all alike.
"""

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from DiffSegLib import events
from DiffSegLib.config import DiffusionConfig, NetworkConfig
from DiffSegLib.inference.sampling import sample_volume
from DiffSegLib.network.build import build
from DiffSegLib.network.features import denoise, encode
from DiffSegLib.network.precision import autocast, pick_device, pick_precision

SHAPE, CLASSES, ROUNDS = (64, 64, 64), 3, 5
Row = dict[str, float | str]


def run_bench(device: str = "auto", rounds: int = ROUNDS, listener: events.Listener = events.silent) -> list[Row]:
    """Median, fastest and slowest seconds of each contestant on one 64^3 volume with three classes, and its size."""
    target = pick_device(device)
    precision = pick_precision("auto", target)
    contestants = _contestants(target, precision, listener)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for n in range(rounds + 1):  # the first round warms up and is not counted
        for name, (_, work) in contestants.items():
            listener(events.make("progress", fraction=n / (rounds + 1), text=f"round {n} of {rounds}: {name}"))
            began = time.perf_counter()
            work()
            if target.type == "cuda":
                torch.cuda.synchronize()
            if n > 0:
                times[name].append(time.perf_counter() - began)
    return [
        {
            "what": name,
            "parameters": float(sum(p.numel() for p in network.parameters())),
            "seconds": statistics.median(times[name]),
            "fastest": min(times[name]),
            "slowest": max(times[name]),
        }
        for name, (network, _) in contestants.items()
    ]


def _contestants(
    device: torch.device, precision: torch.dtype, listener: events.Listener
) -> dict[str, tuple[nn.Module, Callable[[], object]]]:
    config, diffusion = NetworkConfig(), DiffusionConfig()
    unet, cached = (build(replace(config, name=name), 1, CLASSES).to(device) for name in ("unet", "cached"))
    twin = build(config, 1, CLASSES, DiffusionConfig(strategy="supervised")).to(device).eval()
    image = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    batch, mask = image[None].to(device), torch.rand(1, CLASSES, *SHAPE).to(device)
    t = torch.ones(1, device=device)

    def five_steps(network: nn.Module) -> Callable[[], object]:
        options: dict[str, Any] = {"device": device, "precision": precision, "every_step": False}
        factors = tuple(math.prod(axis) for axis in zip(*config.strides, strict=True))

        def work() -> object:
            return next(sample_volume(network.eval(), image, CLASSES, SHAPE, factors, diffusion, **options))

        return work

    def one_pass(network: nn.Module, *inputs: Tensor) -> Callable[[], object]:
        def work() -> object:
            with torch.inference_mode(), autocast(device, precision):
                return network(*inputs)

        return work

    def recycling_step(network: nn.Module) -> Callable[[], object]:
        def work() -> None:
            network.train()
            with autocast(device, precision):
                features = encode(network, batch)
                with torch.no_grad():
                    denoise(network, features, mask, t)
                loss = denoise(network, features, mask, t).float().square().mean()
            loss.backward()
            network.zero_grad(set_to_none=True)

        return work

    found: dict[str, tuple[nn.Module, Callable[[], object]]] = {
        "unet, supervised twin, one pass": (twin, one_pass(twin, batch)),
        "unet, five diffusion steps": (unet, five_steps(unet)),
        "cached, five diffusion steps": (cached, five_steps(cached)),
        "unet, training step with recycling": (unet, recycling_step(unet)),
        "cached, training step with recycling": (cached, recycling_step(cached)),
    }
    if importlib.util.find_spec("einops") is None:
        text = "MONAI's DiffusionModelUNet is left out: it needs the package einops (pip install einops)."
        listener(events.make("warning", text=text))
        return found
    from monai.networks.nets import DiffusionModelUNet

    other = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=1 + CLASSES,
        out_channels=CLASSES,
        channels=config.channels,
        attention_levels=(False,) * (len(config.channels) - 1) + (True,),
        num_res_blocks=config.blocks,
        num_head_channels=config.channels[-1] // config.heads,
    )
    other = other.to(device).eval()
    both = torch.cat([batch, mask], dim=1)
    found["MONAI DiffusionModelUNet, one pass"] = (other, one_pass(other, both, t))
    return found
