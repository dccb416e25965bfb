"""What one movement of the slider costs: python Testing/benchmarks/steps.py (real MRML, no views).

For a hippocampus (48 x 64 x 48, 2 structures) and a large volume (256^3, 8 structures), each number the median and the
slowest of many: the whole of showing another step, and its parts.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from DiffSegLib.labels import labels_from_names
from DiffSegLib.scene.host import SceneHost

HOST = SceneHost()

import slicer  # noqa: E402 - the host makes the scene first
import slicer.util  # noqa: E402

from DiffSegLib.scene import changes, nodes, steps  # noqa: E402
from DiffSegLib.scene.logic import Segmentation  # noqa: E402


def blobs(shape: tuple[int, int, int], count: int) -> list[np.ndarray]:
    """Five masks of `count` balls along a diagonal, each a little larger than the one before."""
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in shape), indexing="ij"))
    masks = []
    for step in range(5):
        mask = np.zeros(shape, dtype=np.uint8)
        for value in range(1, count + 1):
            middle = np.full((3, 1, 1, 1), value / (count + 1), dtype=np.float32)
            mask[((grid - middle) ** 2).sum(0) < ((0.45 + 0.01 * step) / (count + 1)) ** 2] = value
        masks.append(mask)
    return masks


def timed(title: str, action: object, rounds: int) -> None:
    """Print the median and the slowest of `rounds` calls in ms."""
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        action(number)  # type: ignore[operator]
        times.append(1000 * (time.perf_counter() - began))
    print(f"  {title:44s}{statistics.median(times):9.2f} ms, slowest {max(times):9.2f} ms")


def measure(shape: tuple[int, int, int], count: int, rounds: int) -> None:
    """All numbers of one size."""
    HOST.scene.Clear(0)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(volume, np.zeros(shape, np.uint8))
    labels = labels_from_names({value: f"part {value}" for value in range(1, count + 1)})
    masks = blobs(shape, count)
    run = Segmentation("1", volume, labels=labels, masks=masks, mask=masks[-1], stepCount=5, finished=True)
    run.node = nodes.make_segmentation(volume, "scan DiffSeg", "scan DiffSeg", labels)
    nodes.write_labels(run.node, masks[-1], volume, labels)
    steps.finish(run)
    print(f"{' x '.join(map(str, shape))}, {count} structures")
    timed("show another step", lambda n: steps.show(run, 1 + n % 5), rounds)
    timed("  of it: is the segmentation edited?", lambda n: steps.held_step(run), rounds)
    timed("  of it: write the mask", lambda n: nodes.write_labels(run.node, masks[n % 5], volume, labels), rounds)
    run.node.CreateClosedSurfaceRepresentation()
    timed("show another step, 3D shown", lambda n: steps.show(run, 1 + n % 5), max(5, rounds // 10))
    timed("  the same while the slider moves", lambda n: steps.show(run, 1 + n % 5, live=True), rounds)
    steps.show(run, 5)
    timed("what changed (once for each step)", lambda n: changes.compare(masks[1], masks[0]), max(5, rounds // 10))
    timed("keep the five steps as nodes, 3D shown", lambda n: steps.keep(run), 3)
    timed("keep them as a sequence, 3D shown", lambda n: steps.keep_as_sequence(run), 3)


if __name__ == "__main__":
    measure((48, 64, 48), 2, 200)
    measure((256, 256, 256), 8, 40)
