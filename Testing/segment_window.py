"""The module's window with its section Segment, and what its tests do there."""

import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import one_window
from DiffSegLib.scene import settings
from host.application import need_window
from tiny_models import write_model

need_window()


host, client = one_window.host, one_window.client  # fixtures


@pytest.fixture
def remembered(monkeypatch):
    """Settings of this test alone."""
    kept = {}
    monkeypatch.setattr(settings, "get", lambda key, default="": kept.get(key, default))
    monkeypatch.setattr(settings, "put", kept.__setitem__)
    return kept


@pytest.fixture
def window(host, client, tiny_model, remembered):
    slicer.mrmlScene.Clear(0)
    widget = host.open()
    widget.logic._client = client
    widget.segmentPanel._prepareTimer.stop()  # tests of loading in advance start it
    widget.segmentPanel.useModelFile(str(tiny_model))
    yield widget
    host.close()


@pytest.fixture
def panel(window):
    return window.segmentPanel


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "two.safetensors", channels=("T1", "FLAIR"))


def add_volume(array=None, name="scan"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, blob_case(0)[0] if array is None else array)
    return node


def press(host, panel):
    panel.ui.applyButton.click()
    host.wait_for(lambda: panel.run is None or panel.run.finished)
    return panel.run


def choose(panel, volume):
    panel.ui.inputSelector.setCurrentNode(volume)
    return volume
