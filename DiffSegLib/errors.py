"""The errors that a user meets: one sentence each, with the exit code that the command line returns.

Anything that is not a `DiffSegError` is a defect of ours and keeps its traceback.
"""

import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but tab and line break


def printable(text: str) -> str:
    """A text that can be written as UTF-8 anywhere, and asks nothing of a terminal, as files' names may."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text).encode("utf-8", "backslashreplace").decode("utf-8")


class DiffSegError(Exception):
    """A problem with a clear sentence: what is wrong, in which file, what to do."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(DiffSegError):
    """Wrong usage, file, data set, configuration or model (exit code 2)."""


class EnvironmentProblem(DiffSegError):
    """Something is missing on the machine: torch, a device, a package (exit code 3)."""

    exit_code = 3


class Cancelled(DiffSegError):
    """The user stopped the work (exit code 4)."""

    exit_code = 4
