"""How long a warm worker takes from the request to the first step's mask, and how much of that is the network.

A volume of a hippocampus' size and the shipped model. The worker is a process of its own, spoken to through its pipe as
by a window; the network alone is timed in this process, in between. Prints one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from end_to_end import smooth, watch

from DiffSegLib import events
from DiffSegLib.data.volume import Volume
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import Job, PrepareJob, SegmentJob, SegmentOptions
from DiffSegLib.models.shipped import find
from DiffSegLib.models.store import load
from DiffSegLib.tuning import tuned

MODEL, SHAPE = "hippocampus", (36, 50, 36)
IDENTITY = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))


class Worker:
    """A worker process, as long as the block lasts."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-u", "-m", "DiffSegLib", "worker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=tuned(os.environ)
        )
        self._next()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(30)

    def ask(self, job: Job) -> float:
        """Do a job; returns the seconds until its first step, or its end."""
        began = time.perf_counter()
        print(job.to_line(), file=self.process.stdin, flush=True)
        first, event = 0.0, {"event": ""}
        while event["event"] not in ("result", "error"):
            event = self._next()
            if event["event"] == "step" and not first:
                first = time.perf_counter() - began
        if event["event"] == "error":
            raise RuntimeError(event["message"])
        return first or time.perf_counter() - began

    def _next(self) -> events.Event:
        event = events.from_line(self.process.stdout.readline())  # type: ignore[union-attr]
        if event is None:
            raise RuntimeError("The worker said nothing that could be understood.")
        return event


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    with tempfile.TemporaryDirectory(prefix="DiffSeg-") as folder, Worker() as worker:
        print(json.dumps(run(worker, parser.parse_args().rounds, Path(folder))), flush=True)
    return 0


def run(worker: Worker, rounds: int, folder: Path) -> dict[str, Any]:
    """Medians of the rounds after a first one that warms up."""
    image = smooth(SHAPE)
    np.save(folder / "image.npy", image)
    worker.ask(PrepareJob("prepare", MODEL))
    taken: Counter[str] = Counter()
    watch(taken)
    predictor, volume = Predictor(load(find(MODEL)), "auto"), Volume(image[None].astype(np.float32), np.eye(4))
    waited, alone = [], []
    for n in range(rounds + 1):
        options = SegmentOptions(keep_steps=True)
        job = SegmentJob(str(n), MODEL, str(folder / "image.npy"), IDENTITY, str(folder / str(n)), options)
        waited.append(worker.ask(job))
        taken.clear()
        predictor(volume, SegmentOptions(steps=1))  # encoder and denoiser once, as up to the first of five
        alone.append(taken["network"])
    beyond = [first - network for first, network in zip(waited[1:], alone[1:], strict=True)]
    found = {"first_step": waited[1:], "network": alone[1:], "beyond": beyond}
    return {"rounds": rounds, **{key: float(np.median(values)) for key, values in found.items()}, "worst": max(beyond)}


if __name__ == "__main__":
    sys.exit(main())
