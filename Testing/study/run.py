"""Train and measure the study's arms, each with the same budget of processor time; goes on where it stopped.

    python Testing/study/run.py --data DATA --out RUNS --budget 10 --seeds 3

Budgets are core-minutes of training on one thread. What an iteration costs is measured once for all arms, in
`RUNS/costs.json`, again where an arm is new or changed, and gives the number of iterations: other work on the machine
changes the time of a run, never its length. Start it several times to use several cores, once that file is there; each
run is taken by one process only.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from cost import costs
from measure import measure

import study
from DiffSegLib import config

FINALIST = 10.0  # core-minutes from which on the first seed is also measured with 1 to 10 steps
STALE = 6 * 3600  # seconds after which a run that nobody finished may be taken by another


def main() -> int:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--budget", type=float, default=10.0, help="core-minutes of training for each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", default=study.arms(), choices=study.arms(), metavar="ARM")
    options = parser.parse_args()
    cost = costs(options.out / "costs.json")
    for seed in range(options.seeds):
        for arm in options.arms:
            result = study.result_file(arm, seed, options.budget)
            run = options.out / f"{options.budget:g}" / f"{arm}.seed-{seed}"
            if result.is_file() or not _take(run):
                continue
            print(f"{time.strftime('%H:%M:%S')}  {arm}, seed {seed}", flush=True)
            found = _run(arm, seed, options.budget, cost[arm], options.data, run)
            result.parent.mkdir(parents=True, exist_ok=True)
            aside = result.with_suffix(".part")
            aside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            os.replace(aside, result)
            print(f"{time.strftime('%H:%M:%S')}  {arm}, seed {seed}: Dice {found['dice_mean']:.4f}", flush=True)
    return 0


def _take(run: Path) -> bool:
    """Claim a run for this process; a claim that went stale is taken over."""
    claim = run.with_name(f"{run.name}.claim")
    claim.parent.mkdir(parents=True, exist_ok=True)
    if claim.exists() and time.time() - claim.stat().st_mtime > STALE:
        claim.unlink(missing_ok=True)
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _run(arm: str, seed: int, budget: float, cost: float, data: Path, run: Path) -> dict[str, object]:
    """Train an arm for its budget and measure it."""
    settings = study.settings(arm, seed)
    iterations = max(1, round(60.0 * budget / cost))
    shutil.rmtree(run, ignore_errors=True)
    spent = _train(settings, iterations, data, run)
    return {
        "arm": arm,
        "seed": seed,
        "budget_core_minutes": budget,
        "iterations": iterations,
        "cpu_seconds_per_iteration": round(cost, 4),
        "cpu_seconds_with_validation": round(spent, 1),
        "config": settings.to_json(),
        **measure(run / "model.safetensors", data, run, curve_too=seed == 0 and budget >= FINALIST),
    }


def _train(settings: config.Config, iterations: int, data: Path, run: Path) -> float:
    """Train in a process of one thread; the processor seconds that it took."""
    file = run.with_name(f"{run.name}.config.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config.to_text(settings.to_json()), encoding="utf-8")
    command = [sys.executable, "-m", "DiffSegLib", "train", "--data", str(data), "--out", str(run)]
    command += ["--config", str(file), "--iterations", str(iterations), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(study.HERE.parents[1])}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
