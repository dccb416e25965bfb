"""Packages that pip takes for installed and that cannot be loaded: an installation broke off, or a disk was full."""

import subprocess

from DiffSegLib.scene.process import worker_environment

# what Slicer does not bring itself, in the order in which one needs another
LOOKED_AT = ("torch", "safetensors", "monai")
SCRIPT = """
import importlib.util, sys
for name in sys.argv[1:]:
    if importlib.util.find_spec(name) is not None:
        print(name, flush=True)
        __import__(name)
print("", flush=True)
"""


def damaged(python: str, names: tuple[str, ...] = LOOKED_AT) -> str:
    """The first package that is there and cannot be loaded by this Python; empty for none. Takes some seconds."""
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # no black window on Windows
    try:
        answer = subprocess.run(
            [python, "-P", "-c", SCRIPT, *names],
            env=worker_environment(python),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=180,
            check=False,
            creationflags=hidden,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    said = [line.strip() for line in answer.stdout.split("\n") if line.strip() in names]
    return said[-1] if answer.returncode and said else ""  # what ended it, also without a word
