"""What a program at a terminal does alike: parsing, progress on stderr, Ctrl-C, one sentence for an error, exit codes.

Exit codes: 0 all done, 1 some cases failed, 2 wrong usage or input, or every case failed, 3 environment, 4
cancelled.
"""

import argparse
import difflib
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError, printable


class Parser(argparse.ArgumentParser):
    """One sentence instead of the usage text, and exit code 2; a verb says itself what it does not know."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # type: ignore[override]
        """See argparse, which would say of a misspelt option only that the right one is required."""
        known, is_verb = self._option_string_actions, self._subparsers is None
        own = itertools.takewhile(lambda text: text != "--" and (is_verb or text[:1] == "-"), args or ())
        names = [name for text in own if re.fullmatch(r"-{1,2}[a-z][\w-]*", name := text.partition("=")[0], re.I)]
        if wrong := [name for name in dict.fromkeys(names) if name not in known]:
            near = {name: difflib.get_close_matches(name.replace("_", "-"), known, 1, 0.75) for name in wrong}
            told = [f"{name} (is {near[name][0]} meant?)" if near[name] else name for name in wrong]
            self.error(f"unrecognized arguments: {', '.join(told)}")
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        self.exit(2, f"{self.prog}: {message}. See '{self.prog} --help'.\n")


def finish(program: str, call: Callable[[], tuple[int, dict[str, Any]]], as_json: bool) -> int:
    """Run `call` and return the exit code; a user's mistake never shows a traceback.

    as_json: print what `call` answered, or the error, as one JSON object last on stdout.
    """
    code = 0
    try:
        code, answer = _outcome(program, call)
        if as_json and speaks():
            _answer({"ok": code == 0, "exit_code": code, **answer})
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough, as `| head` does
        _leave_stdout()
    return code


def _answer(answer: dict[str, Any]) -> None:
    """Print an answer; a full disk behind stdout changes nothing about what was done."""
    try:
        print(json.dumps(answer), flush=True)
    except BrokenPipeError:
        raise
    except OSError as problem:
        _leave_stdout()
        print(f"The answer could not be printed ({problem.strerror or problem}).", file=sys.stderr, flush=True)


def _leave_stdout() -> None:
    """What is still to be printed goes nowhere, and Python's last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _outcome(program: str, call: Callable[[], tuple[int, dict[str, Any]]]) -> tuple[int, dict[str, Any]]:
    try:
        return call()
    except KeyboardInterrupt:
        problem: DiffSegError = Cancelled("Cancelled.")
    except DiffSegError as found:
        problem = found
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("DiffSegLib"):
            raise
        text = f"The Python package {missing.name!r} is missing; install what DiffSeg needs (see its README)."
        problem = EnvironmentProblem(text)
    except OSError as found:
        if found.filename is None or isinstance(found, BrokenPipeError):
            raise
        problem = InputError(f"{found.filename}: {found.strerror or found}.")
    if str(problem):  # else another process of the same training tells it
        print(f"{program}: {problem}", file=sys.stderr, flush=True)
    return problem.exit_code, {"error": str(problem)}


def speaks() -> bool:
    """Whether this process speaks: of those that torchrun starts, the first."""
    return int(os.environ.get("RANK", "0")) == 0


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


class Show:
    """A listener that writes events to stderr: a progress line that rewrites itself, warnings on lines of their own.

    Without a terminal a progress line appears every ten seconds only, and the last one at the end.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.next_line = 0.0
        self.open_line = False
        self.unsaid = ""  # the last progress, while nobody has seen it

    def __call__(self, event: events.Event) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "progress":
            self._progress(event)
        elif kind == "warning":
            self._line(f"Warning: {event['text']}")
        elif kind == "log":
            self._line(str(event["text"]))
        elif kind == "metric" and "dice" in event:
            by_class = ", ".join("-" if x is None else f"{x:.3f}" for x in event["dice_by_class"])
            text = f"iteration {event['iteration']}: validation Dice {event['dice']:.4f} ({by_class})"
            self._line(f"{text}, at the first step {event['dice_first_step']:.4f}")

    def close(self) -> None:
        """Say how far it came at last."""
        self._end_line()
        self.stream.write(self.unsaid)
        self.unsaid = ""
        self.stream.flush()

    def _end_line(self) -> None:
        if self.open_line:
            self.stream.write("\n")
            self.open_line = False

    def _progress(self, event: events.Event) -> None:
        text = printable(f"{100 * event['fraction']:3.0f} %  {event['text']}")
        if self.terminal:
            self.stream.write(f"\r\033[K{text[:110]}")
            self.open_line = True
        elif time.monotonic() >= self.next_line:
            self.stream.write(text + "\n")
            self.next_line, self.unsaid = time.monotonic() + 10.0, ""
        else:
            self.unsaid = text + "\n"
        self.stream.flush()

    def _line(self, text: str) -> None:
        self._end_line()
        self.stream.write(printable(text) + "\n")
        self.stream.flush()
