"""How long the module's window lets its user wait: times of the section Segment, median and best of several rounds.

    python Testing/benchmarks/module_latency.py IMAGE [--rounds 9] [--model hippocampus]

IMAGE is a file that the model fits, such as a case of MSD Task04 Hippocampus. The window runs off screen in the test
host (PySide6 on real MRML), with the engine in its own process; nothing is drawn. Inside a Slicer application it runs
as well:

    Slicer --python-script Testing/benchmarks/module_latency.py -- IMAGE

A whole head of 256 x 256 x 170 voxels with a region placed on it is measured beside the image.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

import numpy as np  # noqa: E402
import slicer  # noqa: E402
import slicer.util  # noqa: E402

from host.application import Host  # noqa: E402

TICK = 10  # ms
PATIENCE = 120  # seconds


class Bench:
    """The module's window, its section Segment, and clocks."""

    def __init__(self, model):
        self.host = Host()
        self.window = self.host.open()
        self.panel = self.window.segmentPanel
        self.panel._prepareTimer.stop()
        self.client = self.window.logic.client
        self.window.parameterNode.model = model
        self.found = {}

    def note(self, what, seconds):
        self.found.setdefault(what, []).append(1000 * seconds)

    def until(self, condition):
        """Run the event loop until `condition()`, which is looked at every millisecond; returns the seconds it took."""
        import qt

        began = time.perf_counter()
        end = began + PATIENCE
        loop, timer = qt.QEventLoop(), qt.QTimer()
        timer.setInterval(1)
        timer.connect("timeout()", lambda: loop.quit() if condition() or time.perf_counter() > end else None)
        timer.start()
        loop.exec()
        timer.stop()
        assert condition(), "it did not happen in time"
        return time.perf_counter() - began

    def prepare(self):
        """Start the worker and load the model; nothing is timed twice that the user would wait for once."""
        began = time.perf_counter()
        self.panel.onPrepare()
        called = time.perf_counter() - began
        told = []
        self.window.logic.prepare(self.panel.models.model, onFinished=told.append)
        return called, self.until(lambda: told)

    def press(self, title):
        """Segment once; times from the click on."""
        import qt

        ticks, first = [], []
        clock = qt.QTimer()
        clock.setInterval(TICK)
        clock.connect("timeout()", lambda: ticks.append(time.perf_counter()))
        clock.start()
        heard = self.panel.onEvent

        def listen(event):
            heard(event)
            if event["event"] == "step" and not first:
                first.append(time.perf_counter())

        self.panel.onEvent = listen
        began = time.perf_counter()
        self.panel.ui.applyButton.click()
        clicked = time.perf_counter() - began
        run = self.panel.run
        self.until(lambda: run.finished)
        total = time.perf_counter() - began
        clock.stop()
        self.panel.onEvent = heard
        assert run.error is None, run.error
        self.note(f"{title}: press to first mask", first[0] - began)
        self.note(f"{title}: press to result", total)
        self.note(f"{title}: beyond the engine's own time", total - run.provenance["seconds"]["total"])
        self.note(f"{title}: the click itself", clicked)
        between = np.diff([began + clicked, *ticks])
        self.note(f"{title}: worst gap of a {TICK} ms timer", max(between))

    def cancel(self, title):
        """Cancel after the first mask."""
        self.window.parameterNode.steps = 1000
        self.panel.ui.applyButton.click()
        run = self.panel.run
        self.until(lambda: run.node is not None)
        self.panel.ui.applyButton.click()
        self.note(f"{title}: cancel to idle", self.until(lambda: run.finished and self.panel.ui.applyButton.enabled))
        self.window.parameterNode.steps = 5

    def report(self):
        print(f"{'ms':58s} {'median':>9s} {'best':>9s} {'worst':>9s}")
        for what, values in self.found.items():
            print(f"{what:58s} {statistics.median(values):9.1f} {min(values):9.1f} {max(values):9.1f}")


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", default="hippocampus")
    arguments = parser.parse_args()
    bench = Bench(arguments.model)
    volume = bench.host.scene_host.load_volume(arguments.image, "case")
    head = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "head")
    noise = np.random.default_rng(0).normal(300, 60, (170, 256, 256)).astype(np.int16)
    slicer.util.updateVolumeFromArray(head, noise)
    for _ in range(min(arguments.rounds, 3)):
        bench.client.shutdown()
        called, loaded = bench.prepare()
        bench.note("asking for the model in advance, the call itself", called)
        bench.note("from there until the worker has loaded it", loaded)
        bench.panel.ui.inputSelector.setCurrentNode(volume)
        bench.press("first press")
    for _ in range(arguments.rounds):
        bench.press("later press")
        bench.cancel("later press")
    bench.panel.ui.inputSelector.setCurrentNode(head)
    bench.panel.ui.placeRoiButton.click()
    for _ in range(arguments.rounds):
        bench.press("region of a head")
    bench.report()
    bench.client.shutdown()
    bench.host.close()


if __name__ == "__main__":
    main()
