"""The model is loaded before the press: when, and what is said where the engine is not ready."""

import atexit
import os
import signal
import types

import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer

import patient
import segment_window
from DiffSegLib.scene import process
from DiffSegLib.scene.process import WorkerClient
from segment_window import add_volume, choose, press
from tally import tried
from tiny_models import write_model

host, client = segment_window.host, segment_window.client  # fixtures
remembered, window, panel = segment_window.remembered, segment_window.window, segment_window.panel


def test_making_the_window_starts_no_process(host, remembered, monkeypatch):
    monkeypatch.setattr(WorkerClient, "start", lambda self: pytest.fail("a process was started"))
    widget = host.module.DiffSegWidget(host.parent())
    widget.setup()
    panel = widget.segmentPanel
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.count - 1)
    for _ in range(80):
        host.qt.processEvents()
    assert not panel._prepareTimer.isActive()
    widget.cleanup()


def test_entering_the_module_loads_the_model_in_advance(host, client, window, panel):
    client.shutdown()
    window.parent.exit()
    window.parent.enter()
    assert client.pid is None  # entering waits for nothing
    host.wait_for(lambda: client.pid is not None)
    assert not client.busy and panel.ui.applyButton.text == "Segment"


def test_a_module_that_is_reloaded_while_it_is_looked_at_loads_the_model_too(host, remembered):
    """Slicer's Reload sets the new window up in the place of the old one, which stays entered."""
    place = host.parent()
    widget = host.module.DiffSegWidget(types.SimpleNamespace(layout=place.layout, isEntered=True))
    widget.setup()
    assert widget.segmentPanel._prepareTimer.isActive()
    widget.cleanup()


def test_the_worker_ends_while_the_scene_and_its_views_are_there(monkeypatch):
    heard, ended = [], []
    monkeypatch.setattr(process, "_shared", None)
    monkeypatch.setattr(atexit, "register", lambda _function: None)
    manager = types.SimpleNamespace(connect=lambda *given: heard.append(given))
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(moduleManager=lambda: manager), raising=False)
    client = process.shared_client()
    monkeypatch.setattr(client, "shutdown", lambda: ended.append(client))
    ((signal, slot),) = heard
    assert signal == "moduleAboutToBeUnloaded(QString)" and process.shared_client() is client and len(heard) == 1
    slot("Volumes")
    assert ended == []
    slot("DiffSeg")
    assert ended == [client]


def test_choosing_a_model_loads_it_and_leaving_does_not(host, window, panel, monkeypatch, tiny_model):
    asked = []
    monkeypatch.setattr(panel.logic, "prepare", lambda *arguments, **_: asked.append(arguments))
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findData("hippocampus"))
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findData(str(tiny_model)))
    host.wait_for(lambda: asked)
    assert asked == [(str(tiny_model), "auto")]
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findData("hippocampus"))
    window.parent.exit()
    assert not panel._prepareTimer.isActive()


def test_an_engine_that_is_not_ready_says_so_before_the_press(host, panel, tmp_path):
    path = write_model(tmp_path / "cut.safetensors")
    panel.useModelFile(str(path))
    path.write_bytes(path.read_bytes()[:-100])
    panel.onPrepare()
    host.wait_for(lambda: "The engine is not ready" in panel.ui.statusLabel.text)
    assert "cut.safetensors: cannot be read" in panel.ui.statusLabel.text
    path.unlink()
    panel.onPrepare()
    assert "there is no such model file" in panel.ui.statusLabel.text


def test_a_worker_that_is_ended_on_purpose_is_no_engine_that_is_not_ready(panel):
    panel.logic._client = ended = WorkerClient(patient.COMMAND)
    panel.onPrepare()
    ended.shutdown()  # as Install does, which the user may then decline
    assert "not ready" not in panel.ui.statusLabel.text


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_a_worker_that_is_killed_while_it_loads_is_no_error_of_a_later_run(host, client, panel, tiny_model):
    choose(panel, add_volume())
    client.start()
    host.wait_for(lambda: client.pid is not None)
    panel.onPrepare()
    os.kill(client.pid, signal.SIGKILL)
    tried("processes killed")
    host.wait_for(lambda: client.pid is None)
    assert press(host, panel).error is None
