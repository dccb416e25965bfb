"""The module's window with its section Steps, and runs whose masks arrive one by one."""

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
from vtk.util.numpy_support import vtk_to_numpy

import one_window
from DiffSegLib.labels import Label
from DiffSegLib.scene import edits, nodes, steps
from DiffSegLib.scene.logic import Segmentation
from host.application import need_window

need_window()

host = one_window.host  # fixtures

LABELS = (Label(1, "first", (0.9, 0.6, 0.3)), Label(2, "second", (0.2, 0.3, 0.9)))
MASK = blob_case(0)[1]
MASKS = [np.roll(MASK, n, axis=1) for n in (4, 3, 2, 1, 0)]
NOISE = [1.0, 0.75, 0.5, 0.25, 0.001]


@pytest.fixture
def window(host):
    slicer.mrmlScene.Clear(0)
    widget = host.open()
    yield widget
    host.close()


@pytest.fixture
def panel(window):
    return window.stepsPanel


def add_volume(name="scan", seed=0):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, blob_case(seed)[0])
    return node


def started(window, volume=None):
    """A run that was started, with its segmentation, still without a mask."""
    volume = volume or add_volume()
    run = Segmentation("segment-1", volume, labels=LABELS, stepCount=5)
    run.node = nodes.make_segmentation(volume, f"{volume.GetName()} DiffSeg", f"{volume.GetName()} DiffSeg", LABELS)
    window.tell("onRunStarted", run)
    return run


def arrive(window, run):
    """The next mask comes."""
    run.noise.append(NOISE[len(run.masks)])
    run.masks.append(MASKS[len(run.masks)])
    if len(run.masks) == 1:
        nodes.write_labels(run.node, run.masks[0], run.volume, LABELS)
    window.tell("onRunStep", run)


def finish(window, run):
    while len(run.masks) < 5:
        arrive(window, run)
    run.mask, run.finished, run.provenance = run.masks[-1], True, {"engine": "DiffSeg", "seed": 1, "steps": 5}
    nodes.write_labels(run.node, run.mask, run.volume, LABELS)
    steps.finish(run)
    window.tell("onRunFinished", run)
    return run


@pytest.fixture
def run(window):
    return finish(window, started(window))


def held(run):
    return edits.current_labels(run.node, run.volume, LABELS)


def edit(run):
    image = run.node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    vtk_to_numpy(image.GetPointData().GetScalars())[:5] = 2
    image.Modified()
