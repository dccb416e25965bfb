"""The command line: `python -m DiffSegLib VERB ...` or `diffseg VERB ...`.

Exit codes: 0 all done, 1 some cases failed, 2 wrong usage or input, 3 environment, 4 cancelled.
"""

import os
import sys

COMPUTING = ("train", "predict", "demo", "worker", "bench")


def main() -> int:
    """Run the command line of this process and return its exit code."""
    _tune_allocator()
    from DiffSegLib.commands import run

    return run(sys.argv[1:])


def _tune_allocator() -> None:
    """Keep large blocks in glibc's heap: otherwise every tensor above 32 MB is mapped and page-faulted anew.

    Measured: element-wise operations on large tensors run up to seven times faster. glibc reads the settings at the
    start of a process, so a verb that computes replaces the process by itself once.
    """
    computes = any(argument in COMPUTING for argument in sys.argv[1:2])
    if sys.platform != "linux" or not computes or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
        "PYTHONPATH": os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")])),
    }
    # -P: nothing of the current folder may be taken for a module
    os.execve(sys.executable, [sys.executable, "-P", "-u", "-m", "DiffSegLib", *sys.argv[1:]], environment)


if __name__ == "__main__":
    sys.exit(main())
