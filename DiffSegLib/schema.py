"""Plain data from JSON: the object in a file, and dataclasses by the types of their fields."""

import json
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Annotated, Any, Literal

from DiffSegLib.errors import InputError

Text = Annotated[str, "or a number, as people write codes, names and channels"]
WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Text: "text"}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises InputError naming the file, and a key that occurs twice in one object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=only_once)  # editors add a mark
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror}).") from None
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{path}: is no valid JSON ({problem}).") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must hold one JSON object.")
    return data


def only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for json.loads; raises ValueError for a key that occurs twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{shown(key)} occurs twice in one object; keep one")
        found[key] = value
    return found


def build(kind: Any, data: Any, where: str, path: str = "") -> Any:
    """The dataclass `kind` from a JSON object; keys that are left out take their defaults.

    An empty list is taken only where it is the default. Raises InputError that begins with `where` and names the key
    (behind `path`), its value and what is allowed.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: {path.rstrip('.') or 'the top level'} must be an object with named values.")
    hints, known = typing.get_type_hints(kind, include_extras=True), {field.name: field for field in fields(kind)}
    for key in data:
        if key not in known:
            raise InputError(f"{where}: unknown key {path + str(key)!r}; allowed: {', '.join(known)}.")
    for key, field in known.items():
        if key not in data and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{where}: lacks {path + key!r}.")
    values = {}
    for key, value in data.items():
        is_empty = value in ([], ()) and known[key].default == ()
        values[key] = () if is_empty else _convert(hints[key], value, where, path + key)
    return kind(**values)


def _convert(hint: Any, value: Any, where: str, path: str) -> Any:
    """`value` as the type `hint`, or an InputError that says what is allowed."""
    if is_dataclass(hint):
        return build(hint, value, where, path + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _convert(arguments[0], value, where, path)
    if origin is Literal:
        if value in arguments:
            return value
        raise InputError(f"{where}: {path} is {shown(value)}; allowed: {', '.join(map(str, arguments))}.")
    if origin is dict:
        if isinstance(value, Mapping):
            return dict(value)
        raise InputError(f"{where}: {path} is {shown(value)}; it must be an object with named values.")
    if origin is tuple:
        size = None if arguments[-1] is ... else len(arguments)
        if not isinstance(value, (list, tuple)) or not value or len(value) != (size or len(value)):
            parts = ", ".join(WORDS.get(kind, "a list") for kind in arguments)
            wanted = f"of {size}: {parts}" if size else "with an entry at least"
            raise InputError(f"{where}: {path} is {shown(value)}; it must be a list {wanted}.")
        kinds = arguments if size else arguments[:1] * len(value)
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(_convert(kind, item, where, f"{path}[{n}]") for n, (kind, item) in pairs)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and number:
        if not abs(value) <= sys.float_info.max:  # whole numbers have no end
            raise InputError(f"{where}: {path} is {shown(value)}; it must be a finite number.")
        return float(value)
    if hint == Text:
        return _convert(str, str(value) if number else value, where, path)
    if hint is Any or (hint is not float and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))):
        return value
    raise InputError(f"{where}: {path} is {shown(value)}; it must be {WORDS[hint]}.")
