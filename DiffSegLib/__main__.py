"""The command line: `python -m DiffSegLib VERB ...` or `diffseg VERB ...`.

Exit codes: 0 all done, 1 some cases failed, 2 wrong usage or input, or every case failed, 3 environment, 4
cancelled.
"""

import os
import signal
import sys

if not __package__:  # run as a file: this engine, whichever other one may be on the path
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from DiffSegLib.tuning import tuned

COMPUTING = (["train"], ["predict"], ["demo"], ["worker"], ["bench"])


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        _hold_interrupts(True)
        _start_tuned()
        from DiffSegLib.commands import make_parser, run

        make_parser()  # what it imports
        _hold_interrupts(False)
        return run(sys.argv[1:])
    except KeyboardInterrupt:
        print("diffseg: Cancelled.", file=sys.stderr)
        return 4


def _hold_interrupts(hold: bool) -> None:
    """While modules are imported Ctrl-C waits, also over `execve`: Python would answer it with a traceback."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK, [signal.SIGINT])


def _start_tuned() -> None:
    """A verb that computes replaces this process by itself once: libraries read their settings at the start."""
    environment = tuned(os.environ)
    if sys.platform != "linux" or sys.argv[1:2] not in COMPUTING or environment == dict(os.environ):
        return
    # -P: nothing of the current folder may be taken for a module
    os.execve(sys.executable, [sys.executable, "-P", "-u", os.path.abspath(__file__), *sys.argv[1:]], environment)


if __name__ == "__main__":
    sys.exit(main())
