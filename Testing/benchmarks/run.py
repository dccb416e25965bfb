"""Everything in one run: `make bench` prints the tables and writes docs/performance.md with its plots.

python Testing/benchmarks/run.py                # all of it, about half an hour on two cores
python Testing/benchmarks/run.py --parts networks
python Testing/benchmarks/run.py --page        # only the page anew, from what was measured before
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import page
import torch

from DiffSegLib.network.precision import pick_device, pick_precision
from DiffSegLib.terminal import Show
from DiffSegLib.training.bench import ceilings, measure, own, processor
from DiffSegLib.tuning import tuned

HERE = Path(__file__).resolve().parent
MEASURED = HERE / "measured.json"
PARTS = ("networks", "volumes", "growth", "processes", "loading", "worker")

# a crop, a part of a head, a head, a body; the last one's model works on 3 mm, as TotalSegmentator's fastest
VOLUMES = (
    {"shape": (36, 50, 36), "classes": 3, "patch": 48, "rounds": 15},
    {"shape": (64, 64, 64), "classes": 3, "patch": 64, "rounds": 7},
    {"shape": (128, 128, 128), "classes": 10, "rounds": 1},
    {"shape": (128, 128, 128), "classes": 100, "rounds": 0},
    {"shape": (256, 256, 256), "classes": 20, "rounds": 0, "grid": 1.5},
    {"shape": (400, 512, 512), "spacing": (1.0, 0.8, 0.8), "classes": 25, "rounds": 0, "grid": 3.0},
)
SIZES, CLASSES, STEPS, SAMPLES = (48, 64, 96, 128), (2, 10, 25, 50, 100), (1, 2, 5, 10), (1, 2, 4)
GROWTH = {
    "size": [{"shape": (n, n, n), "patch": 64} for n in SIZES],
    "classes": [{"shape": (64, 64, 64), "patch": 64, "classes": n} for n in CLASSES],
    "steps": [{"shape": (64, 64, 64), "patch": 64, "steps": n} for n in STEPS],
    "samples": [{"shape": (64, 64, 64), "patch": 64, "samples": n} for n in SAMPLES],
}


def main() -> int:
    """Measure what is asked for, keep it, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--rounds", type=int, default=7, help="of the networks")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    if sys.platform == "linux" and (environment := tuned(os.environ)) != dict(os.environ):  # as users' programs run
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    options.parts = () if options.page else options.parts
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    work = {
        "networks": lambda: networks(options.device, options.rounds),
        "volumes": lambda: [one(**case) for case in VOLUMES],
        "growth": lambda: {name: [one(rounds=3, **case) for case in cases] for name, cases in GROWTH.items()},
        "processes": lambda: [several(count) for count in (1, 2, 4)],
        "loading": lambda: json.loads(start("loading.py", {}).communicate()[0]),
        "worker": lambda: json.loads(start("worker.py", {}).communicate()[0]),
    }
    for part in (part for part in PARTS if part in options.parts):  # each is kept as soon as it is there
        found[part] = work[part]()
        found.setdefault("machines", {})[part] = machine()
        MEASURED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(page.write(found))
    return 0


def machine() -> dict[str, str]:
    """What it was measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    precision = str(pick_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    kind = f"{torch.backends.cpu.get_cpu_capability()}, {precision}"  # some systems hide the processor's own name
    return {
        "processor": processor(),
        "kind": kind,
        "cores": str(os.cpu_count()),
        "gpu": gpu,
        "torch": torch.__version__,
    }


def networks(name: str, rounds: int) -> dict[str, Any]:
    """Our networks beside others, interleaved."""
    from convolutions import add_convolutions
    from others import others

    show, device = Show(), pick_device(name)
    precision = pick_precision("auto", device)
    before, full = ceilings(device, precision), ceilings(device, torch.float32)
    contestants = [*own(device, precision), *others(device, precision)]
    rows = measure(contestants, rounds, device, show)
    add_convolutions(rows, contestants, device)
    show.close()
    after = ceilings(device, precision)
    most = {key: max(value, after[key]) for key, value in before.items()}
    most["tflops_fp32"] = max(full["tflops"], ceilings(device, torch.float32)["tflops"])
    return {"rows": rows, "ceilings": most, "precision": str(precision).removeprefix("torch.")}


def one(**case: Any) -> dict[str, Any]:
    """Of a process of its own."""
    return json.loads(start("end_to_end.py", case).communicate()[0])


def several(count: int) -> dict[str, Any]:
    """The same small volumes in several processes at once: how many a second."""
    case = {"shape": (64, 64, 64), "patch": 64, "rounds": 5}
    began = time.perf_counter()
    running = [start("end_to_end.py", case) for _ in range(count)]
    rows = [json.loads(process.communicate()[0]) for process in running]
    rate = sum(1.0 / row["seconds"] for row in rows)
    found = {key: max(row[key] for row in rows) for key in ("seconds", "slowest", "network")}
    found |= {"fastest": min(row["fastest"] for row in rows)}
    found |= {key: sum(row[key] for row in rows) for key in ("peak_mb", "start_mb")}
    return {"processes": count, "volumes_a_second": rate, "whole": time.perf_counter() - began, **found}


def start(program: str, case: dict[str, Any]) -> subprocess.Popen[str]:
    """Begin to measure one case, in an environment as the command line makes it for itself."""
    command = [sys.executable, str(HERE / program)]
    for key, value in case.items():
        command += [f"--{key}", *map(str, value if isinstance(value, (tuple, list)) else (value,))]
    print(" ".join(command[1:]), file=sys.stderr, flush=True)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=tuned(os.environ))


if __name__ == "__main__":
    sys.exit(main())
