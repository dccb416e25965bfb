"""Volumes and segmentations of a scene, as somebody drew them, for the tests of training on them."""

import numpy as np
import pytest

from conftest import blob_case, turned

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from DiffSegLib.scene.host import SceneHost

LABELS = (
    Label(
        1,
        "First part",
        (0.9, 0.6, 0.3),
        ("SCT", "123037004", "Anatomical Structure"),
        ("SCT", "5366008", "Hippocampus"),
    ),
    Label(2, "second", (0.2, 0.3, 0.9)),
)
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = turned(20, -10, 35) @ np.diag([0.9, 1.1, 2.0])
OBLIQUE[:3, 3] = (12.123456789, -30.0, 55.0)


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def scene(host, monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", host.scene)
    monkeypatch.setattr(slicer, "modules", slicer.modules)
    host.scene.Clear(0)
    return host


def add_case(n, labels=LABELS, name=None, affine=OBLIQUE):
    """A volume and its segmentation, as somebody drew it."""
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name or f"scan {n}")
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((nodes.RAS_TO_LPS @ affine).ravel().tolist())
    volume.SetIJKToRASMatrix(matrix)
    slicer.util.updateVolumeFromArray(volume, blob_case(n)[0])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} drawn")
    node.CreateDefaultDisplayNodes()
    nodes.prepare_segmentation(node, volume, labels)
    nodes.write_labels(node, blob_case(n)[1], volume, labels)
    return volume, node


def rename(pair, number, name):
    pair[1].GetSegmentation().GetSegment(f"Segment_{number}").SetName(name)


def drop(pair, number):
    pair[1].GetSegmentation().RemoveSegment(f"Segment_{number}")
