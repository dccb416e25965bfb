"""The module's window with its sections Train and Trainings open, and what its tests do there."""

import json
import shutil

import pytest

from conftest import blob_case, make_dataset

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import one_window
from DiffSegLib.labels import Label
from DiffSegLib.models.shipped import home
from DiffSegLib.scene import nodes, settings, trainings
from DiffSegLib.scene.training import Training
from host.application import need_window

need_window()

host, client = one_window.host, one_window.client  # fixtures

LABELS = (Label(1, "liver", (0.9, 0.6, 0.3)), Label(2, "spleen", (0.2, 0.3, 0.9)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("labelled") / "blobs", 3)


def forget():
    for key in (trainings.FOLDER_KEY, trainings.RUNS_KEY):
        settings.put(key, "")
    shutil.rmtree(home(), ignore_errors=True)


@pytest.fixture
def window(host, client):
    slicer.mrmlScene.Clear(0)
    forget()
    widget = host.open()
    widget.logic._client = client
    widget.trainPanel.ui.trainCollapsibleButton.collapsed = False
    yield widget
    host.close()
    forget()


@pytest.fixture
def panel(window):
    return window.trainPanel


@pytest.fixture
def started(window, monkeypatch):
    """What the window would have started."""
    calls = []

    def train(data, run, **options):
        calls.append({"data": data, "run": run, **options})
        return Training(run)

    monkeypatch.setattr(window.logic, "train", train)
    return calls


def check(host, panel):
    panel.ui.trainCheckButton.click()
    host.wait_for(lambda: panel.ui.trainCheckButton.text == "Check and propose" and not panel._preparation.busy)


def add_case(n, labels=LABELS):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"scan {n}")
    slicer.util.updateVolumeFromArray(volume, blob_case(n)[0])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"drawn {n}")
    node.CreateDefaultDisplayNodes()
    nodes.prepare_segmentation(node, volume, labels)
    nodes.write_labels(node, blob_case(n)[1], volume, labels)
    return volume, node


def shown(panel, name):
    return getattr(panel.ui, name).isVisibleTo(panel.root)


def config_of(panel):
    return json.loads(panel.ui.trainConfigText.plainText)
