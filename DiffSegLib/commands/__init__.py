"""The verbs of the command line: each parses its options and calls the rooms; nothing is computed here."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from DiffSegLib import __version__
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem


class _Parser(argparse.ArgumentParser):
    """One sentence instead of the usage text, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See '{self.prog} --help'.\n")


def make_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    from DiffSegLib.commands import bench, demo, evaluate, models, predict, train, worker

    parser = _Parser(
        prog="diffseg", description="Segment 3D medical images in five diffusion steps.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"diffseg {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for module in (demo, train, predict, evaluate, models, bench, worker):
        module.add(verbs)
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="print one JSON object last on stdout")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a user's mistake never shows a traceback."""
    try:
        options = make_parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        code, answer = options.call(options)
    except KeyboardInterrupt:
        return _fail(options, Cancelled("Cancelled."))
    except DiffSegError as problem:
        return _fail(options, problem)
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("DiffSegLib"):
            raise
        text = f"The Python package {problem.name!r} is missing; install DiffSeg's requirements (pip install diffseg)."
        return _fail(options, EnvironmentProblem(text))
    if options.json:
        print(json.dumps({"ok": code == 0, "exit_code": code, **answer}), flush=True)
    return int(code)


def _fail(options: argparse.Namespace, problem: DiffSegError) -> int:
    if str(problem):  # else another process of the same training tells it
        print(f"diffseg {options.verb}: {problem}", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({"ok": False, "exit_code": problem.exit_code, "error": str(problem)}), flush=True)
    return problem.exit_code


class StopFlag:
    """Turns Ctrl-C and SIGTERM into a flag that work in progress looks at, so that it can end in good order."""

    def __init__(self) -> None:
        self.set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: Any) -> None:
        if self.set:
            raise KeyboardInterrupt
        self.set = True

    def __call__(self) -> bool:
        """Whether the work should stop."""
        return self.set
