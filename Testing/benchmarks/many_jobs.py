"""Whether anything grows when many jobs follow each other: memory, open files, temporary files and nodes.

    python Testing/benchmarks/many_jobs.py IMAGE [--jobs 200] [--model hippocampus]

The window's button is pressed again and again, off screen, with the engine in its own process; every tenth job is
cancelled, and at every fiftieth the worker is killed in the middle. Counts are taken from /proc, so this runs on Linux.
"""

import argparse
import os
import signal
import tempfile
from pathlib import Path

from module_latency import Bench

import slicer  # isort: skip - module_latency sets the paths


def counts(bench):
    """MiB resident of the window's process and of the worker, open files of both, temporary files, nodes."""
    row = []
    for pid in (os.getpid(), bench.client.pid):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        row.append(next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS")))
    row += [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), bench.client.pid)]
    row.append(len(list(Path(tempfile.gettempdir()).glob("DiffSeg-*"))))
    row.append(slicer.mrmlScene.GetNumberOfNodes())
    return row


def main():
    """Run and print a row of counts for every tenth part of the jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--model", default="hippocampus")
    arguments = parser.parse_args()
    bench = Bench(arguments.model)
    volume = bench.host.scene_host.load_volume(arguments.image, "case")
    bench.prepare()
    bench.panel.ui.inputSelector.setCurrentNode(volume)
    button = bench.panel.ui.applyButton
    print("  job  window MiB  worker MiB  window files  worker files  temporary  nodes  cancelled  killed")
    cancelled = killed = 0
    for number in range(1, arguments.jobs + 1):
        bench.window.parameterNode.steps = 1000 if number % 10 == 0 else 5
        button.click()
        run = bench.panel.run
        if number % 50 == 0:
            bench.until(lambda run=run: run.node is not None)
            os.kill(bench.client.pid, signal.SIGKILL)
            killed += 1
        elif number % 10 == 0:
            bench.until(lambda run=run: run.node is not None)
            button.click()
            cancelled += 1
        bench.until(lambda run=run: run.finished and button.enabled)
        assert (run.error is None) == (number % 10 != 0), run.error
        if number % max(1, arguments.jobs // 10) == 1:
            window, worker, *rest = counts(bench)
            print(
                f"{number:5d}  {window:10.1f}  {worker:10.1f}  {rest[0]:12d}  {rest[1]:12d}  {rest[2]:9d}  {rest[3]:5d}"
                f"  {cancelled:9d}  {killed:6d}",
                flush=True,
            )
    bench.client.shutdown()
    bench.host.close()


if __name__ == "__main__":
    main()
