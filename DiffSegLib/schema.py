"""Plain data from JSON: the object in a file, and dataclasses by the types of their fields."""

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from DiffSegLib.errors import InputError

WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises InputError naming the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror}).") from None
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{path}: is no valid JSON ({problem}).") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must hold one JSON object.")
    return data


def build(kind: Any, data: Any, where: str, path: str = "") -> Any:
    """The dataclass `kind` from a JSON object; keys that are left out take their defaults.

    An empty list is taken only where it is the default. Raises InputError that begins with `where` and names the key
    (behind `path`), its value and what is allowed.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: {path.rstrip('.') or 'the top level'} must be an object with named values.")
    hints, known = typing.get_type_hints(kind), {field.name: field for field in fields(kind)}
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
        raise InputError(f"{where}: {path} is {value!r}; allowed: {', '.join(map(str, arguments))}.")
    if origin is dict:
        if isinstance(value, Mapping):
            return dict(value)
        raise InputError(f"{where}: {path} is {value!r}; it must be an object with named values.")
    if origin is tuple:
        size = None if arguments[-1] is ... else len(arguments)
        if not isinstance(value, (list, tuple)) or not value or len(value) != (size or len(value)):
            wanted = f"of {size}" if size else "with an entry at least"
            raise InputError(f"{where}: {path} is {value!r}; it must be a list {wanted}.")
        kinds = arguments if size else arguments[:1] * len(value)
        return tuple(_convert(kind, item, where, path) for kind, item in zip(kinds, value, strict=True))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and number:
        if not math.isfinite(value):
            raise InputError(f"{where}: {path} is {value!r}; it must be a finite number.")
        return float(value)
    if hint is Any or (hint is not float and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))):
        return value
    raise InputError(f"{where}: {path} is {value!r}; it must be {WORDS[hint]}.")
