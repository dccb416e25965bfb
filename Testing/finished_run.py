"""A finished run in a scene, as the logic leaves it: what the tests of its steps begin with."""

import numpy as np
import pytest

from conftest import blob_case, write_image

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
from vtk.util.numpy_support import vtk_to_numpy

from DiffSegLib.labels import Label
from DiffSegLib.scene import edits, nodes, steps
from DiffSegLib.scene.host import SceneHost
from DiffSegLib.scene.logic import Segmentation

CODES = {"category": ("SCT", "123037004", "Anatomical Structure"), "type": ("SCT", "5366008", "Hippocampus")}
LABELS = (Label(1, "first", (0.9, 0.6, 0.3), **CODES), Label(2, "second", (0.2, 0.3, 0.9)))
MASK = blob_case(0)[1]
SCALED = np.diag([0.8, 0.9, 2.0, 1.0])


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def volume(host, tmp_path):
    host.scene.Clear(0)
    return host.load_volume(write_image(tmp_path / "scan.nrrd", blob_case(0)[0], SCALED), "scan")


def make_run(volume, masks, name="scan DiffSeg", **more):
    """A finished run as the logic leaves it."""
    run = Segmentation("segment-1", volume, labels=LABELS, masks=masks, mask=masks[-1], finished=True)
    run.checksums = [edits.checksum(mask) for mask in masks]
    run.stepCount, run.provenance = len(masks), {"engine": "DiffSeg", "seed": 7, "steps": len(masks)}
    run.node = nodes.make_segmentation(volume, name, name, LABELS)
    nodes.write_labels(run.node, masks[-1], volume, LABELS)
    steps.finish(run)
    for key, value in more.items():
        setattr(run, key, value)
    return run


@pytest.fixture
def run(volume):
    return make_run(volume, [np.roll(MASK, n, axis=1) for n in (2, 1, 0)])


def held(run, node=None):
    return edits.current_labels(node or run.node, run.volume, run.labels)


def count():
    return slicer.mrmlScene.GetNumberOfNodes()


def shared_labels(node):
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    scalars = image.GetPointData().GetScalars()
    return image, vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def edit(node):
    """What a brush does: voxels of the shared label map change."""
    image, view = shared_labels(node)
    view[1:4, 1:4, 1:4] = 1
    image.Modified()
