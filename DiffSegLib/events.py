"""Events: what running work tells its listener, one JSON object a line.

Kinds and their fields (all carry `event` and the schema version `v`; a worker adds `job`, the job's id):

    progress  fraction (0..1), text; while segmenting also step, steps, window, windows, sample, samples
    step      step (1-based), steps, fraction, noise (of the mask that the network was shown: 1 is noise alone, 0 none);
              the masks themselves travel as files (worker) or arrays (in process); with several samples the steps of
              the first come, and at the end those of the mean
    metric    any numbers by name, e.g. iteration, loss, dice
    log       text
    warning   text (work goes on; recorded in the provenance)
    result    what the job made
    error     message (one sentence), exit_code, detail (traceback of an unforeseen error, else empty)
"""

import json
from collections.abc import Callable
from typing import Any

SCHEMA_VERSION = 1
KINDS = ("progress", "step", "metric", "log", "warning", "result", "error")

Event = dict[str, Any]
Listener = Callable[[Event], None]


def make(kind: str, **fields: Any) -> Event:
    """Return an event of `kind`.

    >>> make("log", text="ready")
    {'event': 'log', 'v': 1, 'text': 'ready'}

    Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown event kind {kind!r}; known: {', '.join(KINDS)}")
    return {"event": kind, "v": SCHEMA_VERSION, **fields}


def silent(_event: Event) -> None:
    """A listener that ignores everything."""


def to_line(event: Event) -> str:
    """One event as one line of JSON without the newline; ASCII, so that no code page can break it."""
    return json.dumps(event, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=str)


def from_line(line: str | bytes) -> Event | None:
    """Parse a line; None if it is no event (stray output of a library must never stop the listener)."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(event, dict) and event.get("event") in KINDS and event.get("v") == SCHEMA_VERSION
    return event if known else None
