"""The files of a training's run folder, as far as they can be read while a process writes them, and without torch."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from DiffSegLib import schema
from DiffSegLib.errors import InputError
from DiffSegLib.models.shipped import read_header
from DiffSegLib.scene.words import tr as _
from DiffSegLib.whole_files import write_text

CHECKPOINTS = ("last.safetensors", "previous.safetensors")  # as training.checkpoint has them
TAIL = 1 << 18  # bytes of an output file that are looked at


def write(path: Path, text: str) -> None:
    """With one sentence for a folder that cannot be written."""
    try:
        write_text(path, text)
    except InputError as problem:
        raise InputError(_("{reason} Choose another folder for the trainings.").format(reason=problem)) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one: files that are being made are whole or not there."""
    try:
        return schema.read_json(path)
    except InputError:
        return {}


def last_line(path: Path) -> str:
    """The last line with something on it of a text file, which may be long; "" without one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def kept_iterations(folder: Path) -> int:
    """How many iterations the newest checkpoint in a folder has; 0 without one."""
    for name in CHECKPOINTS:
        with contextlib.suppress(InputError, KeyError, TypeError, ValueError):
            return int(json.loads(read_header(folder / name)["state"])["progress"]["iteration"])
    return 0
