"""What data costs a training: how long it waits for batches, and how much processor time cutting them takes.

Cases of the size of a hippocampus, every augmentation, the network that is proposed for them. Prints one JSON object.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from DiffSegLib import config
from DiffSegLib.data import stream
from DiffSegLib.data.patches import Prepared, batch_of, prepare
from DiffSegLib.network.build import build
from DiffSegLib.training import loop

SHAPE, CLASSES, WARM_UP = (36, 50, 36), 3, 5
SETTINGS = {
    "data": {"spacing": [1.0, 1.0, 1.0], "patch": [40, 56, 40], "foreground": 0.33},
    "augment": {
        "affine_probability": 1.0,
        "rotation": 15.0,
        "scale": 0.15,
        "shift": 0.06,
        "flip": [False, False, True],
    },
    "network": {"name": "cached", "channels": [16, 32, 64, 96], "strides": [[2, 2, 2]] * 3, "blocks": 1},
    "diffusion": {"strategy": "unrolled"},
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4)
    print(json.dumps(run(parser.parse_args())), flush=True)
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train and add up; the first iterations, in which everything is touched for the first time, are left out."""
    settings = {"iterations": options.iterations + WARM_UP, "batch": options.batch, "validations": 1}
    chosen = config.from_json({**SETTINGS, "training": settings})
    cases = [case(n) for n in range(8)]
    alone = cutting(cases, chosen, options.iterations)
    waits: list[float] = []
    ends: list[float] = []
    loop.batches = watched(waits, ends)  # type: ignore[assignment]
    loop.validate = lambda *_, **__: {"dice": 0.0}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="DiffSeg-") as folder:
        network = build(chosen.network, 1, CLASSES, chosen.diffusion)
        loop.train(network, CLASSES, cases, cases[:1], chosen, Path(folder))
    whole = ends[-1] - ends[WARM_UP]
    return {
        "iterations": options.iterations,
        "batch": options.batch,
        "seconds": whole / (len(ends) - 1 - WARM_UP),
        "waited": sum(waits[WARM_UP + 1 :]) / whole,
        "cpu_seconds_a_batch": alone,
        "threads": torch.get_num_threads(),
    }


def cutting(cases: list[Prepared], chosen: config.Config, times: int) -> float:
    """Processor seconds of a batch, on one thread and with nothing beside it."""
    threads, size = torch.get_num_threads(), chosen.training.batch
    torch.set_num_threads(1)
    began = time.process_time()
    for n in range(times):
        batch_of(cases, chosen.data, chosen.augment, 0, range(n * size, (n + 1) * size))
    spent = time.process_time() - began
    torch.set_num_threads(threads)
    return spent / times


def watched(waits: list[float], ends: list[float]) -> Any:
    """The stream of batches, timed where the training takes one."""
    plain = stream.batches

    def batches(*arguments: Any) -> Any:
        with contextlib.closing(plain(*arguments)) as inner:
            while True:
                began = time.perf_counter()
                batch = next(inner)
                ends.append(time.perf_counter())
                waits.append(ends[-1] - began)
                yield batch

    return batches


def case(seed: int) -> Prepared:
    """An image of noise and blocks, normalised, with its label map."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, [-(-n // 12) for n in SHAPE]).repeat(12, 0).repeat(12, 1).repeat(12, 2)
    label = np.ascontiguousarray(label[tuple(slice(n) for n in SHAPE)]).astype(np.uint8)
    image = (label + rng.normal(size=SHAPE)).astype(np.float32)[None]
    return prepare(f"case{seed}", torch.from_numpy(image), torch.from_numpy(label), (1.0, 1.0, 1.0))


if __name__ == "__main__":
    sys.exit(main())
