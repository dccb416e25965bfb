"""`diffseg bench`: the speed of this machine."""

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("bench", help="measure the speed of this machine", allow_abbrev=False)
    verb.add_argument("--rounds", type=int, default=5, help="measured rounds (default 5)")
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Measure and print a table; every time also as a multiple of the first row."""
    from DiffSegLib.errors import InputError
    from DiffSegLib.inference.bench import run_bench
    from DiffSegLib.terminal import Show

    if options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}; it must be at least 1.")
    show = Show()
    rows = run_bench(options.device, options.rounds, show)
    show.close()
    if not options.json:
        print(
            f"{'one 64 x 64 x 64 volume, 3 classes':38s}{'M param.':>9s}{'median s':>10s}{'range s':>15s}{'ratio':>7s}"
        )
        for row in rows:
            span = f"{row['fastest']:.2f}-{row['slowest']:.2f}"
            ratio = float(row["seconds"]) / float(rows[0]["seconds"])
            print(
                f"{row['what']:38s}{float(row['parameters']) / 1e6:9.1f}{row['seconds']:10.2f}{span:>15s}{ratio:7.2f}"
            )
    return 0, {"rows": rows}
