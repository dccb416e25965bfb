"""A volume in a scene without an application, what the scene holds, and runs on it: for the tests of runs."""

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

from DiffSegLib.errors import Cancelled
from DiffSegLib.scene import nodes
from DiffSegLib.scene.host import SceneHost
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import WorkerClient
from DiffSegLib.scene.transport import PipeTransport
from test_roi import affine
from tiny_models import write_model

OBLIQUE = affine([20, -10, 35], (0.9, 1.1, 2.0), (12, -30, 55))  # IJK to RAS


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def scene(host, monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", host.scene)
    monkeypatch.setattr(slicer, "modules", slicer.modules)
    host.scene.Clear(0)
    return host.scene


@pytest.fixture(scope="module")
def client():
    made = WorkerClient(transport=PipeTransport)
    yield made
    made.shutdown()


@pytest.fixture
def logic(client):
    return SegmentLogic(client)


@pytest.fixture
def volume(scene):
    return add_volume(blob_case(0)[0])


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "two.safetensors", channels=("T1", "FLAIR"))


def add_volume(array, matrix=OBLIQUE, name="scan"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    made = vtk.vtkMatrix4x4()
    made.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    node.SetIJKToRASMatrix(made)
    node.CreateDefaultDisplayNodes()
    return node


def everything():
    """What the scene holds: every node with its name, attributes and transform."""
    found = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    others = ("vtkMRMLSubjectHierarchyNode", "vtkMRMLLabelMapVolumeDisplayNode")  # the latter: from reading masks here
    found = [node for node in found if node.GetClassName() not in others]
    return {
        node.GetID(): (
            node.GetName(),
            {name: node.GetAttribute(name) for name in node.GetAttributeNames()},
            node.GetTransformNodeID() if hasattr(node, "GetTransformNodeID") else None,
        )
        for node in found
    }


def held(node, volume):
    """What a segmentation shows: by segment its name, colour, visibility and voxels; and whether there is a surface."""
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    segments = [
        (
            name,
            segmentation.GetSegment(name).GetName(),
            segmentation.GetSegment(name).GetColor(),
            display.GetSegmentVisibility(name),
            slicer.util.arrayFromSegmentBinaryLabelmap(node, name, volume).tobytes(),
        )
        for name in segmentation.GetSegmentIDs()
    ]
    surfaces = [
        segmentation.GetSegment(name).GetRepresentation("Closed surface").GetNumberOfPoints()
        for name in (segmentation.GetSegmentIDs() if segmentation.ContainsRepresentation("Closed surface") else ())
    ]
    return segments, surfaces


def cancel_after(logic, step, *arguments, **options):
    """Run until a step was shown, then cancel; returns the run and what the node held at that step."""
    seen = []

    def listen(event):
        if event["event"] == "step" and event["step"] == step:
            seen.append(nodes.read_labels(run.node, run.volume, run.labels))
            logic.cancel(run)

    run = logic.segment(*arguments, steps=400, onEvent=listen, wait=False, **options)
    logic.client.wait(run.number)
    assert isinstance(run.error, Cancelled) and run.node is None and run.finished
    np.testing.assert_array_equal(seen[0], run.masks[step - 1])
    return run
