"""A Python without torch, as Slicer's own is at first, whichever folders its packages come from.

As a program it is the command line: `python without_torch.py worker` for `python -m DiffSegLib worker`. PYTHONPATH
would not do: PythonSlicer puts its own folders before it.
"""

import runpy
import sys


class Hidden:
    """An entry of sys.meta_path."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def hide(*names):
    """From now on there are no such packages."""
    sys.meta_path.insert(0, Hidden(names))


def worker_command(_python=None):
    """In place of process.worker_command; as there, nothing from the current folder is imported."""
    return [sys.executable, "-P", "-u", __file__, "worker"]


if __name__ == "__main__":
    hide("torch")
    runpy.run_module("DiffSegLib", run_name="__main__", alter_sys=True)
