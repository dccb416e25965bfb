"""`diffseg bench`: the speed of this machine."""

import argparse
from typing import Any

from DiffSegLib.jobs import DEVICES
from DiffSegLib.options import DEVICE_HELP


def add(verbs: Any) -> None:
    """Options of the verb."""
    verb = verbs.add_parser("bench", help="measure the speed of this machine", allow_abbrev=False)
    verb.add_argument("--rounds", type=int, default=5, help="measured rounds (default 5)")
    verb.add_argument("--device", choices=DEVICES, default="auto", help=DEVICE_HELP)
    verb.set_defaults(call=call)


def call(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Measure and print a table, what its columns mean, and on what it was measured."""
    from DiffSegLib.errors import InputError
    from DiffSegLib.terminal import Show
    from DiffSegLib.training import bench

    if options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}; it must be at least 1.")
    show = Show()
    found = bench.run(options.device, options.rounds, show)
    show.close()
    if not options.json:
        most = found["ceilings"]
        print("\n".join(table(found["rows"], most["tflops"])))
        print("Seconds are medians, CPU s those of all threads together; MB: the peak above what was held before;")
        print("ratio: seconds against the first row; ceiling: FLOPs in a second against a large convolution's.")
        print(f"Machine: {found['machine']}.", end=" ")
        print(f"Ceilings: a large {found['precision']} convolution {most['tflops']:.2f} TFLOP/s,", end=" ")
        print(f"copying memory {most['gigabytes_per_second']:.1f} GB/s.")
    return 0, found


def table(rows: list[dict[str, Any]], tflops: float) -> list[str]:
    """Lines of text; of the ceiling: FLOPs in a second against those of a large convolution."""
    head = ("one 64 x 64 x 64 volume, 3 classes", "M param.", "median s", "range s", "CPU s", "GFLOP", "ceiling", "MB")
    lines = ["{:44s}{:>9s}{:>10s}{:>13s}{:>8s}{:>8s}{:>9s}{:>7s}{:>7s}".format(*head, "ratio")]
    for row in rows:
        span = f"{row['fastest']:.2f}-{row['slowest']:.2f}"
        share = row["gflop"] / row["seconds"] / 1e3 / tflops
        lines.append(
            f"{row['what']:44s}{row['parameters'] / 1e6:9.1f}{row['seconds']:10.3f}{span:>13s}{row['cpu_seconds']:8.2f}"
            f"{row['gflop']:8.0f}{share:9.0%}{row['memory_mb']:7.0f}{row['seconds'] / rows[0]['seconds']:7.2f}"
        )
    return lines
