"""The command line: `python -m DiffSegLib VERB ...` or `diffseg VERB ...`.

Exit codes: 0 all done, 1 some cases failed, 2 wrong usage or input, 3 environment, 4 cancelled.
"""

import os
import sys

from DiffSegLib.tuning import tuned

COMPUTING = (["train"], ["predict"], ["demo"], ["worker"], ["bench"])


def main() -> int:
    """Run the command line of this process and return its exit code."""
    _start_tuned()
    from DiffSegLib.commands import run

    return run(sys.argv[1:])


def _start_tuned() -> None:
    """A verb that computes replaces this process by itself once: libraries read their settings at the start."""
    environment = tuned(os.environ)
    if sys.platform != "linux" or sys.argv[1:2] not in COMPUTING or environment == dict(os.environ):
        return
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    # -P: nothing of the current folder may be taken for a module
    os.execve(sys.executable, [sys.executable, "-P", "-u", "-m", "DiffSegLib", *sys.argv[1:]], environment)


if __name__ == "__main__":
    sys.exit(main())
