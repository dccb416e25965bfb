"""Malformed and odd inputs: each kind is made by a few lines, and says what must become of it.

`python Testing/bad/table.py` writes them as a table into docs/reliability.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REFUSED, READ, MENDED = "refused", "read as it is", "mended and told"


@dataclass(frozen=True)
class Kind:
    """make: writes the input into an empty folder and returns its path. words: a pattern that the sentence has."""

    group: str
    name: str
    outcome: str
    words: str
    make: Callable[[Path], Path]


KINDS: list[Kind] = []


def kind(group: str, name: str, outcome: str = REFUSED, words: str = ""):
    """Register the decorated function."""

    def register(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        assert (group, name) not in {(each.group, each.name) for each in KINDS}
        KINDS.append(Kind(group, name, outcome, words, make))
        return make

    return register
