"""The worker process that a window or a console keeps warm: requests on stdin, events on stdout, one JSON line each.

A thread reads stdin, so that a cancel reaches a running job, and the end of stdin (the parent is gone) ends the process
at once. Everything that libraries print goes to stderr: stdout carries events only.
"""

import contextlib
import importlib
import json
import os
import queue
import shutil
import signal
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

from DiffSegLib import events
from DiffSegLib.errors import DiffSegError, InputError
from DiffSegLib.jobs import TEMPORARY
from DiffSegLib.serving.session import Session

# what a request may ask for: the module of this name here has run(session, request, send, cancelled), which does it and
# returns the fields of its result event; imported when it is first asked for
TASKS = ("describe", "plan", "prepare", "segment", "evaluate")


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
    running: list[dict[str, Any]] = []
    # bytes that are no UTF-8 must not end the thread which hears that the parent is gone
    stream = os.fdopen(os.dup(0), encoding="utf-8", errors="surrogateescape")
    threading.Thread(target=_listen, args=(stream, requests, cancelled, running, send), daemon=True).start()
    try:
        session = Session()
        send(events.make("log", text="The worker is ready.", state="ready", pid=os.getpid()))
    except DiffSegError as problem:
        send(events.make("error", message=str(problem), exit_code=problem.exit_code, detail=""))
        return problem.exit_code
    while (request := requests.get()) is not None:
        running[:] = [request]
        _serve(session, request, cancelled, send)
        running.clear()
    return 0


def _serve(session: Session, request: dict[str, Any], cancelled: set[str], send: events.Listener) -> None:
    """One request: exactly one result or error event at its end, whatever happens."""
    number = str(request.get("id", ""))

    def send_of_job(event: events.Event) -> None:
        send({**event, "job": number})

    try:
        task = request.get("do")
        if task not in TASKS:
            raise InputError(f"unknown request {task!r}; allowed: {', '.join(TASKS)}, cancel, quit.")
        module = importlib.import_module(f"DiffSegLib.serving.{task}")
        fields = module.run(session, request, send_of_job, lambda: number in cancelled)
        send_of_job(events.make("result", **fields))
    except DiffSegError as problem:
        send_of_job(events.make("error", message=str(problem), exit_code=problem.exit_code, detail=""))
    except Exception as problem:  # a defect or the machine's limits: reported, and the worker lives on
        text = f"The engine failed unexpectedly ({type(problem).__name__}: {problem})."
        send_of_job(events.make("error", message=text, exit_code=1, detail=traceback.format_exc()))
    finally:
        cancelled.discard(number)


def _listen(
    stream: TextIO,
    requests: "queue.Queue[dict[str, Any] | None]",
    cancelled: set[str],
    running: list[dict[str, Any]],
    send: events.Listener,
) -> None:
    for line in stream:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            send(events.make("error", message="A request was no JSON object.", exit_code=2, detail=line[:200]))
        elif request.get("do") == "cancel":
            cancelled.add(str(request.get("id", "")))
        elif request.get("do") == "quit":
            requests.put(None)
        else:
            requests.put(request)
    # the parent is gone: nobody waits for the jobs, and nobody else will remove the patient's images
    for request in (*running, *(each for each in list(requests.queue) if each)):
        folder = Path(str(request.get("output", "")))
        if folder.name.startswith(TEMPORARY):
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
