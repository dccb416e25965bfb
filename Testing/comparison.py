"""The module's window with two segmentations of one volume to compare, and what the tests of comparisons share."""

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import one_window
from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from host.application import need_window

need_window()

host, client = one_window.host, one_window.client  # fixtures

SPACING = (2.0, 1.0, 0.8)  # k, j, i
AFFINE = np.diag([0.8, 1.0, 2.0, 1.0])
AFFINE[:3, 3] = (5.0, -7.0, 11.0)
LABELS = (Label(1, "first", (0.9, 0.6, 0.3)), Label(2, "second", (0.2, 0.3, 0.9)))


@pytest.fixture
def window(host, client):
    slicer.mrmlScene.Clear(0)
    widget = host.open()
    widget.logic._client = client
    yield widget
    host.close()


@pytest.fixture
def logic(window):
    return window.logic


@pytest.fixture
def volume(window):
    return nodes.make_volume("scan", blob_case(0)[0], AFFINE)


def segmentation(name, mask, volume, labels=LABELS):
    node = nodes.make_segmentation(volume, name, name, labels)
    nodes.write_labels(node, mask, volume, labels)
    return node


def masks():
    """A prediction that is off by a voxel or two, and the reference."""
    reference = blob_case(0)[1]
    return np.roll(reference, (1, 2), axis=(0, 1)), reference


@pytest.fixture
def pair(volume):
    prediction, reference = masks()
    return segmentation("automatic", prediction, volume), segmentation("by hand", reference, volume)


def check_scores(found, wanted):
    distances, volumes = ("hd95_mm", "asd_mm", "centroid_mm"), ("volume_ml", "reference_volume_ml")
    for key in ("outcome", "dice", "iou", "nsd", *distances, *volumes):
        value = getattr(wanted, key)
        assert found[key] == (value if isinstance(value, str) else pytest.approx(value, nan_ok=True, rel=1e-6)), key
    assert found["volume_difference_ml"] == pytest.approx(wanted.volume_ml - wanted.reference_volume_ml)


def column(table, name):
    return table.GetTable().GetColumnByName(name)


def cells(table, name):
    values = column(table, name)
    return [values.GetValue(row) for row in range(values.GetNumberOfValues())]


def coarse_grid():
    """A volume on another grid: half as many voxels along i, shifted and turned."""
    affine = np.array([[0.0, 1.1, 0, 4.0], [1.6, 0, 0, -8.0], [0, 0, 1.9, 10.0], [0, 0, 0, 1]])
    return nodes.make_volume("other grid", np.zeros((20, 16, 16), np.float32), affine)
