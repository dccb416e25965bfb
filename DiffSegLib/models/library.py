"""A person's own models: a trained one is put beside the others under a name, whole or not at all.

Like `shipped`, this needs the standard library alone: of a model file only the header is written anew.
"""

import hashlib
import json
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label
from DiffSegLib.models.card import Card
from DiffSegLib.models.shipped import home, own, read_card, shipped
from DiffSegLib.whole_files import whole_file

NAME = re.compile(r"\w(?:[\w .+-]{0,58}[\w+-])?")  # also a file's name on every system


def check_name(name: str, run: str = "") -> None:
    """Raise InputError where a new model cannot be called `name`; one that the training `run` made may be replaced."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a model's name; write up to 60 letters, digits, spaces, dots, '-', '+' or '_', a "
            "letter or digit first."
        )
    # file systems may not tell upper from lower case
    taken = {known.casefold(): path for known, path in (own() | shipped()).items()}.get(name.casefold())
    if taken is not None and not (run and _run_of(taken) == run):
        raise InputError(f"A model called {name} is there already ({taken}); choose another name.")


def add(model: Path, name: str, run: str = "") -> Path:
    """Copy a model file to one's own models as `name`, and return its new path.

    run: tells the training; only a model of the same training is replaced. Raises InputError for a name that is taken.
    """
    check_name(name, run)
    card = read_card(model)
    training = {**card.training, "run": run} if run else card.training
    path = home() / "models" / f"{name}.safetensors"
    write_card(model, replace(card, name=name, training=training), path)
    return path


def relabel(model: Path, labels: Sequence[Label]) -> None:
    """Give the labels of a model file other names, colours and codes. Raises InputError for other label values."""
    card = read_card(model)
    looks = {label.value: label for label in labels}
    unknown = [label.value for label in card.labels if label.value not in looks]
    if unknown:
        raise InputError(f"{model}: nothing is said of its label {unknown[0]}.")
    write_card(model, replace(card, labels=tuple(looks[label.value] for label in card.labels)), model)


def write_card(model: Path, card: Card, path: Path) -> None:
    """Write `model` with another card to `path`, which may be the same file."""
    # the sources are closed before the file is exchanged, as Windows demands
    with whole_file(path) as aside, open(model, "rb") as source, open(aside, "wb") as target:
        header = json.loads(source.read(struct.unpack("<Q", source.read(8))[0]))
        header["__metadata__"]["diffseg"] = json.dumps(card.to_json())
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # the weights begin at a multiple of 8 bytes; their places count from there
        target.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(source, target)


def run_id(run: Path) -> str:
    """Tells a training, by its frozen configuration; empty before there is one."""
    path = run / "config.json"
    try:
        return hashlib.sha256(f"{path.stat().st_mtime_ns} ".encode() + path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _run_of(path: Path) -> str:
    try:
        return str(read_card(path).training.get("run", ""))
    except InputError:
        return ""
