"""The errors that a user meets: one sentence each, with the exit code that the command line returns.

Anything that is not a `DiffSegError` is a defect of ours and keeps its traceback.
"""


class DiffSegError(Exception):
    """A problem with a clear sentence: what is wrong, in which file, what to do."""

    exit_code = 2


class InputError(DiffSegError):
    """Wrong usage, file, data set, configuration or model (exit code 2)."""


class EnvironmentProblem(DiffSegError):
    """Something is missing on the machine: torch, a device, a package (exit code 3)."""

    exit_code = 3


class Cancelled(DiffSegError):
    """The user stopped the work (exit code 4)."""

    exit_code = 4
