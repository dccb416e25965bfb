"""`diffseg models` and `diffseg info MODEL`: what is there, and the card of one."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from DiffSegLib.errors import InputError, printable

FIRST = ("name", "description", "not_for", "licence", "channels", "labels")  # of a card, for a person who reads it
LAST = ("expects", "training", "network", "diffusion", "data", "members")


def add(verbs: Any) -> None:
    """Options of both verbs."""
    text = "list the models: those that come with DiffSeg, and one's own"
    verb = verbs.add_parser("models", help=text, allow_abbrev=False)
    verb.add_argument("--join", nargs="+", metavar="MODEL", help="make an ensemble of these models, names or files")
    verb.add_argument("--name", help="what --join calls the new one among your own")
    verb.set_defaults(call=call_models)
    verb = verbs.add_parser("info", help="show the card of a model", allow_abbrev=False)
    verb.add_argument("model", help="a model's name, a .safetensors file, or the folder of a training")
    verb.set_defaults(call=call_info)


def call_models(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """A line per model; one that cannot be read is told on stderr and left out."""
    if options.join or options.name:
        return _join(options)
    from DiffSegLib.models.shipped import available, home, own, read_card

    cards = {}
    for name, path in available().items():
        try:
            cards[name] = read_card(path)
        except InputError as problem:
            print(problem, file=sys.stderr)
    if not options.json:
        for name, card in cards.items():
            print(printable(f"{name:20s} {card.description}"))
        text = "delete one to remove it" if own() else "there are none yet (train --name NAME puts one there)"
        print(f"Your own are files in {home() / 'models'}; {text}.", file=sys.stderr)
    return 0, {"models": {name: card.to_json() for name, card in cards.items()}}


def _join(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Several models become one among one's own."""
    if not (options.join and options.name):
        raise InputError("--join and --name go together: the models, and what their ensemble is called.")
    from DiffSegLib.models import join, library
    from DiffSegLib.models.shipped import find, home

    library.check_name(options.name)
    path = home() / "models" / f"{options.name}.safetensors"
    card = join.join([find(model) for model in options.join], options.name, path)
    print(f"{path} joins {len(card.members)} networks.", file=sys.stderr)
    return 0, {"path": str(path), "members": len(card.members)}


def call_info(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """The whole card."""
    from DiffSegLib.models.shipped import find, read_card

    path = find(options.model)
    card = read_card(path).to_json()
    if not options.json:
        order = [*FIRST, *(key for key in card if key not in FIRST + LAST), *LAST]
        text = "\n".join(_text({"file": str(path)} | {key: card[key] for key in order if key in card}))
        print(printable(text))
    return 0, {"path": str(path), "card": card}


def _text(data: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A line for each plain value, and the parts of a table or a list of tables below its name."""
    for key, value in data.items():
        several = isinstance(value, list | tuple) and any(isinstance(entry, dict) for entry in value)
        if several or (isinstance(value, dict) and value):
            yield f"{indent}{key}:"
            for entry in value if several else [value]:
                first, *others = _text(entry, indent + "    ")
                yield f"{indent}  - {first.strip()}" if several else first
                yield from others
        elif value not in (None, "", [], {}, ()):
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"{indent}{key}: {shown}"
