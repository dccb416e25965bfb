"""`diffseg demo`: the shipped model on a real brain image that a dependency ships."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("demo", help="segment both hippocampi of the MNI152 template", allow_abbrev=False)
    verb.add_argument("--out", type=Path, default=Path("demo"), help="folder for masks, scene and pictures")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Run the demo and list what it wrote."""
    from DiffSegLib.commands.show import Show
    from DiffSegLib.demo import run_demo

    show = Show()
    files = run_demo(options.out, show)
    show.close()
    print("Wrote:", *(f"  {path}" for path in files), sep="\n", file=sys.stderr)
    return 0, {"files": [str(path) for path in files]}
