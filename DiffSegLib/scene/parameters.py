"""Parameters of a saved scene that this version does not know."""

import typing
from collections.abc import Callable
from typing import Any


def forgetUnknown(node: Any, wrap: Callable[[Any], Any], kinds: tuple[type, ...]) -> list[str]:
    """Take from a parameter node the values that its wrapper would refuse, so that the defaults come back; their names.

    A scene may be of another version, with other choices and ranges, or edited by hand. The wrapper raises for such a
    value when the window connects to it, and the module would stay empty.

    wrap: the wrapper's class, whose annotated fields `kinds` have.
    """
    hints = {name: hint for kind in kinds for name, hint in typing.get_type_hints(kind).items()}
    saved = {name: hint for name, hint in hints.items() if node.HasParameter(name)}
    forgotten = [name for name, hint in saved.items() if hint in (int, float) and not _takes(hint, node, name)]
    for name in forgotten:
        node.UnsetParameter(name)
    wrapped = wrap(node)
    for name in saved:
        try:
            setattr(wrapped, name, getattr(wrapped, name))
        except (TypeError, ValueError):
            forgotten.append(name)
            node.UnsetParameter(name)
    return forgotten


def _takes(kind: type, node: Any, name: str) -> bool:
    try:
        kind(node.GetParameter(name))
    except ValueError:
        return False
    return True
