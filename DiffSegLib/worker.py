"""The worker process that a window or a console keeps warm: requests on stdin, events on stdout, one JSON line each.

A thread reads stdin, so that a cancel reaches a running job, and the end of stdin (the parent is gone) ends the process
at once. Everything that libraries print goes to stderr: stdout carries events only.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from DiffSegLib import __version__, events
from DiffSegLib.errors import DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.jobs import SegmentJob

Send = Callable[[events.Event], None]


def main() -> int:
    """Serve jobs until stdin ends or a quit is asked for. Returns the exit code."""
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):  # a group of its own, so that it can be ended with all its children
            os.setsid()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints to stdout must not stand between the events
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the parent's console is the parent's to handle
    lock = threading.Lock()

    def send(event: events.Event) -> None:
        with lock:
            channel.write(events.to_line(event) + "\n")
            channel.flush()

    requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
    cancelled: set[str] = set()
    threading.Thread(target=_listen, args=(sys.stdin, requests, cancelled, send), daemon=True).start()
    try:
        server = Server()
        send(events.make("log", text="The worker is ready.", state="ready", **server.describe()))
    except DiffSegError as problem:
        send(events.make("error", message=str(problem), exit_code=problem.exit_code, detail=""))
        return problem.exit_code
    while (request := requests.get()) is not None:
        _serve(server, request, cancelled, send)
    return 0


class Server:
    """Holds the last model, so that a second job pays neither the import nor the loading."""

    def __init__(self) -> None:
        try:
            import torch
        except ImportError as problem:
            text = (
                f"PyTorch cannot be imported by {sys.executable} ({problem}); install it in the module's Environment."
            )
            raise EnvironmentProblem(text) from None
        self.torch = torch
        self._key: tuple[str, float, str] | None = None
        self._predictor: Any = None

    def describe(self) -> dict[str, Any]:
        """Versions and device, for the log and for a bug report."""
        cuda = self.torch.cuda.is_available()
        return {
            "pid": os.getpid(),
            "python": sys.executable,
            "engine": __version__,
            "torch": self.torch.__version__,
            "cuda": self.torch.cuda.get_device_name(0) if cuda else None,
            "threads": self.torch.get_num_threads(),
        }

    def segment(self, job: SegmentJob, send: Send, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Run one job and return the fields of its result event."""
        import numpy as np

        from DiffSegLib.data.volume import Volume
        from DiffSegLib.inference.predict import volumes_ml

        output = Path(job.output)
        predictor = self.predictor(job.model, job.options.device)
        try:
            output.mkdir(parents=True, exist_ok=True)
            array = np.load(job.image, allow_pickle=False)
        except (OSError, ValueError) as problem:
            raise InputError(f"{job.image}: cannot be read as an array ({problem}).") from None
        array = np.asarray(array[None] if array.ndim == 3 else array, dtype=np.float32)
        if array.ndim != 4 or array.size == 0:
            raise InputError(f"{job.image}: has shape {array.shape}; (K, J, I) or (channels, K, J, I) is needed.")
        if not np.isfinite(array).all():
            raise InputError("The volume holds values that are not numbers (NaN or infinite); replace them first.")
        volume = Volume(array, np.array(job.ijk_to_lps, dtype=np.float64), "The volume")
        paths: list[str] = []

        def on_step(step: int, steps: int, mask: np.ndarray) -> None:
            path = _save(output / f"step-{step}.npy", mask)
            paths.append(path)
            volumes = volumes_ml(mask, volume, [label.value for label in predictor.model.card.labels])
            sizes = {str(value): ml for value, ml in volumes.items()}
            send(events.make("step", step=step, steps=steps, mask=path, volumes_ml=sizes, fraction=step / steps))

        prediction = predictor(volume, job.options, send, on_step if job.options.keep_steps else None, cancelled)
        result = {
            "mask": _save(output / "mask.npy", prediction.mask),
            "steps": paths,
            "labels": [label.to_json() for label in predictor.model.card.labels],
            "volumes_ml": {str(value): ml for value, ml in prediction.volumes_ml.items()},
            "warnings": prediction.warnings,
            "provenance": prediction.provenance,
        }
        if prediction.uncertainty is not None:
            result["uncertainty"] = _save(output / "uncertainty.npy", prediction.uncertainty)
        return result

    def predictor(self, model: str, device: str) -> Any:
        """The warm predictor, or a new one for another model, a changed file or another device."""
        from DiffSegLib.inference.predict import Predictor
        from DiffSegLib.models.shipped import find
        from DiffSegLib.models.store import load

        path = find(model)
        key = (str(path.resolve()), path.stat().st_mtime, device)
        if key != self._key:
            self._predictor = Predictor(load(path), device)
            self._predictor.warm_up()
            self._key = key
        return self._predictor


def _serve(server: Server, request: dict[str, Any], cancelled: set[str], send: Send) -> None:
    """One request: exactly one result or error event at its end, whatever happens."""
    number = str(request.get("id", ""))

    def send_of_job(event: events.Event) -> None:
        send({**event, "job": number})

    try:
        if request.get("do") != "segment":
            raise InputError(f"unknown request {request.get('do')!r}; allowed: segment, cancel, quit.")
        job = SegmentJob.from_json(request)
        fields = server.segment(job, send_of_job, lambda: number in cancelled)
        send_of_job(events.make("result", options=asdict(job.options), **fields))
    except DiffSegError as problem:
        send_of_job(events.make("error", message=str(problem), exit_code=problem.exit_code, detail=""))
    except Exception as problem:  # a defect or the machine's limits: reported, and the worker lives on
        text = f"The segmentation failed unexpectedly: {type(problem).__name__}: {str(problem).splitlines()[0:1]}"
        send_of_job(events.make("error", message=text, exit_code=1, detail=traceback.format_exc()))
    finally:
        cancelled.discard(number)


def _listen(stream: TextIO, requests: "queue.Queue[dict[str, Any] | None]", cancelled: set[str], send: Send) -> None:
    for line in stream:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            send(events.make("error", message="A request was no JSON object.", exit_code=2, detail=line[:200]))
        elif request.get("do") == "cancel":
            cancelled.add(str(request.get("id", "")))
        elif request.get("do") == "quit":
            requests.put(None)
        else:
            requests.put(request)
    os._exit(0)  # the parent is gone: nobody waits for the job that may be running


def _save(path: Path, array: Any) -> str:
    """Write an array aside and rename it, so that who is told of the path finds it whole."""
    import numpy as np

    aside = path.with_name(f".{path.name}.part")
    try:
        with open(aside, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(aside, path)
    except OSError as problem:
        raise InputError(f"{path}: cannot be written ({problem.strerror or problem}).") from None
    return str(path)
