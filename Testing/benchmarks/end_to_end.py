"""One volume from file to file in a process of its own: the time of each stage and the peak of its memory, as JSON.

    python Testing/benchmarks/end_to_end.py --shape 400 512 512 --spacing 1 0.8 0.8 --classes 25 --grid 1.5

The network is the default one with weights by chance: its cost is that of a trained one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from DiffSegLib import config
from DiffSegLib.data import batch, files, outputs
from DiffSegLib.data.native import NativeMap
from DiffSegLib.inference import predict, sampling
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import labels_from_names
from DiffSegLib.models import store
from DiffSegLib.models.card import card_of
from DiffSegLib.network.build import build
from DiffSegLib.training.bench import peak_memory, restart_peak

STAGES = ("read", "prepare", "network", "diffusion and blending", "resample back", "write")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 64, 64), help="voxels, k j i")
    parser.add_argument("--spacing", type=float, nargs=3, default=(1.0, 1.0, 1.0), help="mm, k j i")
    parser.add_argument("--grid", type=float, default=1.0, help="mm of the model's grid")
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--classes", type=int, default=3, help="with the background")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--network", choices=("cached", "unet"), default="cached")
    parser.add_argument("--channels", type=int, nargs="+", help="of the network, the default one's if not given")
    parser.add_argument("--rounds", type=int, default=1, help="volumes after the first, which warms up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="DiffSeg-") as folder:
        print(json.dumps(run(options, Path(folder))), flush=True)
    return 0


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Segment the same volume several times; medians of the rounds."""
    model = made(options, folder)
    image = smooth(options.shape)
    grid = np.diag([*options.spacing[::-1], 1.0])
    files.write_volume(folder / "scan.nii.gz", image, grid)
    names = [f"round{n}" for n in range(options.rounds + 1)]
    size = image.size * 4 / 1e6  # as float32
    del image
    taken: Counter[str] = Counter()
    watch(taken)
    predictor = Predictor(model)
    asked = SegmentOptions(steps=options.steps, samples=options.samples)
    before = restart_peak() / 1e6
    rounds = []
    for name in names:
        taken.clear()
        began, used = time.perf_counter(), time.process_time()
        batch.run_cases(
            [(name, (folder / "scan.nii.gz",))],
            outputs.Outputs(folder / "out", model.card.labels),
            lambda v, _: predictor(v, asked),
        )
        whole = time.perf_counter() - began
        rounds.append({"seconds": whole, "cpu_seconds": time.process_time() - used, **{s: taken[s] for s in STAGES}})
    counted = rounds[1:] or rounds
    result = {key: float(np.median([each[key] for each in counted])) for key in counted[0]}
    result |= {"peak_mb": peak_memory() / 1e6, "start_mb": before, "image_mb": size}
    walls = [each["seconds"] for each in counted]
    result |= {"fastest": min(walls), "slowest": max(walls)}
    result |= {"other": result["seconds"] - sum(result[stage] for stage in STAGES)}
    described = {key: value for key, value in vars(options).items() if key != "network"}
    return {**described, **result}


def made(options: argparse.Namespace, folder: Path) -> store.Model:
    """A model with weights by chance."""
    network = {"name": options.network} | ({"channels": options.channels} if options.channels else {})
    if options.channels:
        network["strides"] = [[2, 2, 2]] * (len(options.channels) - 1)
    data = {"spacing": [options.grid] * 3, "patch": [options.patch] * 3}
    settings = config.from_json({"data": data, "network": network})
    labels = labels_from_names({n: f"part {n}" for n in range(1, options.classes)})
    torch.manual_seed(0)
    weights = build(settings.network, 1, options.classes, settings.diffusion).state_dict()
    path = folder / "model.safetensors"
    store.save(path, weights, card_of(settings, name="bench", labels=labels, channels=("CT",)))
    return store.load(path)


def smooth(shape: Sequence[int]) -> np.ndarray:
    """An int16 volume that gzip can make smaller, as a scan's."""
    coarse = np.random.default_rng(0).normal(size=[-(-n // 8) for n in shape]) * 200
    whole = coarse.astype(np.int16).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    return np.ascontiguousarray(whole[: shape[0], : shape[1], : shape[2]])


def watch(taken: Counter[str]) -> None:
    """Add the seconds of each stage to `taken` from now on."""

    def timed(owner: Any, name: str, stage: str) -> None:
        action: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return action(*arguments, **named)
            finally:
                taken[stage] += time.perf_counter() - began

        setattr(owner, name, call)

    timed(batch, "read_case", "read")
    timed(predict, "to_model_space", "prepare")
    timed(sampling, "encode", "network")
    timed(sampling, "denoise", "network")
    timed(NativeMap, "add", "resample back")
    timed(NativeMap, "result", "resample back")
    timed(outputs, "write_mask", "write")
    pieces = sampling.Sampling.pieces

    def watched(self: Any, image: Any) -> Any:
        run = pieces(self, image)
        while True:
            began, network = time.perf_counter(), taken["network"]
            piece = next(run, None)
            taken["diffusion and blending"] += time.perf_counter() - began - (taken["network"] - network)
            if piece is None:
                return
            yield piece

    sampling.Sampling.pieces = watched  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
