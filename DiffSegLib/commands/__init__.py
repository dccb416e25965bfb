"""The verbs of the command line: each parses its options and calls the rooms; nothing is computed here."""

from collections.abc import Sequence

from DiffSegLib import __version__
from DiffSegLib.terminal import Parser, finish


def make_parser() -> Parser:
    """All verbs and their options."""
    from DiffSegLib.commands import bench, demo, evaluate, models, predict, train, worker

    parser = Parser(
        prog="diffseg", description="Segment 3D medical images in five diffusion steps.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"diffseg {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for module in (demo, train, predict, evaluate, models, bench, worker):
        module.add(verbs)
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="print one JSON object last on stdout")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a user's mistake never shows a traceback."""
    try:
        options = make_parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return finish(f"diffseg {options.verb}", lambda: options.call(options), options.json)
