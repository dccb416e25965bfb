"""`diffseg worker`: the process that a window keeps; reads jobs on stdin, writes events on stdout."""

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("worker", help="serve jobs from stdin (used by the Slicer module)", allow_abbrev=False)
    verb.set_defaults(call=call)


def call(_options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Serve until stdin ends."""
    from DiffSegLib.serving.process import main

    return main(), {}
