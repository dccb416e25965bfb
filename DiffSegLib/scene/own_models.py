"""The user's own model files, remembered between sessions; what is gone or no model any more is left out."""

import json
from pathlib import Path

from DiffSegLib.errors import DiffSegError
from DiffSegLib.models.card import Card
from DiffSegLib.models.shipped import read_card
from DiffSegLib.scene import settings

KEY = "OwnModels"
MOST = 20  # the oldest are forgotten


def remembered() -> dict[str, Card]:
    """Path -> card, the latest last."""
    found = {}
    for path in _paths():
        try:
            found[path] = read_card(Path(path))
        except DiffSegError:  # a disk that is not there now may come back: it stays remembered
            continue
    return found


def remember(path: str) -> Card:
    """Add a file; raises InputError for one that is no model."""
    card = read_card(Path(path))
    settings.put(KEY, json.dumps([*(other for other in _paths() if other != path), path][-MOST:]))
    return card


def _paths() -> list[str]:
    try:
        found = json.loads(settings.get(KEY, "[]"))
    except ValueError:
        return []
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []
