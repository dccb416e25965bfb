"""Change a model's card and nothing else: the bytes of the weights are copied as they are.

    python Testing/tools/edit_card.py MODEL '{"expects": {"modality": "MR", "contrast": "T1"}}'

MODEL is a shipped model's name or a .safetensors file. The JSON's keys replace those of the card, which must then fit
its schema.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from DiffSegLib.models.card import parse_card
from DiffSegLib.models.shipped import find
from DiffSegLib.whole_files import whole_file


def edit_card(path: Path, changes: dict[str, Any]) -> None:
    """Write `path` anew with a changed card; raises InputError for a card that does not fit its schema."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, weights = json.loads(data[8 : 8 + size]), data[8 + size :]
    card = {**json.loads(header["__metadata__"]["diffseg"]), **changes}
    text = json.dumps(card)
    parse_card(text, str(path))
    header["__metadata__"]["diffseg"] = text
    new = json.dumps(header, separators=(",", ":")).encode()
    new += b" " * (-len(new) % 8)  # the weights begin at a multiple of eight bytes
    with whole_file(path) as aside:
        aside.write_bytes(len(new).to_bytes(8, "little") + new + weights)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("changes", type=json.loads)
    arguments = parser.parse_args()
    edit_card(find(arguments.model), arguments.changes)
