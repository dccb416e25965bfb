"""Finding model files and reading their cards, with the standard library alone: a window can list models without torch.

Besides the models that come with DiffSeg there are a person's own, in a folder that the command line and every Slicer
share: `$DIFFSEG_HOME/models`, or that of the platform (`library` puts them there).

A safetensors file begins with the length of its header (8 bytes, little endian) and the header as JSON; the card is in
the header's `__metadata__`.
"""

import contextlib
import json
import os
import struct
import sys
from pathlib import Path

from DiffSegLib.errors import InputError
from DiffSegLib.models.card import Card, parse_card

FOLDER = Path(__file__).parent
MAX_HEADER = 20_000_000  # bytes; a header that claims more is not read


def shipped() -> dict[str, Path]:
    """Name -> file of the models that come with DiffSeg."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def home() -> Path:
    """The folder of a person's own models and trainings: `$DIFFSEG_HOME`, else where the platform keeps such data."""
    if os.environ.get("DIFFSEG_HOME"):
        return Path(os.environ["DIFFSEG_HOME"])
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "DiffSeg"


def own() -> dict[str, Path]:
    """Name -> file of a person's own models."""
    found: list[Path] = []
    with contextlib.suppress(OSError):  # a home that may not be entered, as in some containers
        found = sorted(path for path in (home() / "models").glob("*.safetensors") if path.is_file())
    return {path.stem: path for path in found if path.name[0] != "."}


def available() -> dict[str, Path]:
    """Name -> file of every model that can be named: the shipped ones first, then one's own."""
    found = shipped()
    return found | {name: path for name, path in own().items() if name not in found}


def find(name: str) -> Path:
    """The file of a model's name, of a path, or in the folder of a training. Raises InputError listing the names."""
    known = available()
    if name in known:
        return known[name]
    path = Path(name)
    for file in (path, path / "model.safetensors"):
        if file.is_file():
            return file
    is_path = path.name != name or path.suffix == ".safetensors"
    what = "there is no such model file (any more)" if is_path else "is neither a model file nor the name of a model"
    what = "is a folder without a model.safetensors, with which a training ends" if path.is_dir() else what
    raise InputError(f"{name}: {what}; the models are: {', '.join(known) or 'none'}.")


def read_card(path: Path) -> Card:
    """The card alone; weights are not read. Raises InputError for a file that is no DiffSeg model."""
    text = read_header(path).get("diffseg")
    if not isinstance(text, str):
        raise InputError(f"{path}: carries no DiffSeg card; it is some other safetensors file.")
    return parse_card(text, str(path))


def read_header(path: Path) -> dict[str, str]:
    """What a safetensors file says besides its tensors. Raises InputError for another file."""
    try:
        with open(path, "rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            if size > MAX_HEADER:
                raise ValueError("its header is too large")
            metadata = json.loads(file.read(size)).get("__metadata__")
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror or problem}).") from None
    except (struct.error, ValueError, AttributeError, RecursionError):
        raise InputError(f"{path}: is no model file; a DiffSeg .safetensors is needed.") from None
    return metadata if isinstance(metadata, dict) else {}
