"""The module's window, off screen: every control is moved, runs end as they should, the scene may close at any time."""

import gc
import os
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from conftest import ROOT, blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import one_window
import patient
from DiffSegLib.scene import nodes, process
from DiffSegLib.scene.host import inside_slicer
from DiffSegLib.scene.process import WorkerClient
from DiffSegLib.scene.transport import QtTransport
from host.application import need_window
from tally import tried

need_window()

host, client = one_window.host, one_window.client  # fixtures


@pytest.fixture
def window(host, client, tiny_model):
    slicer.mrmlScene.Clear(0)
    widget = host.open()
    widget.logic._client = client
    widget.segmentPanel.useModelFile(str(tiny_model))
    yield widget
    host.close()


def add_volume(name="scan", seed=0):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, blob_case(seed)[0])
    return node


def segment(host, window):
    window.segmentPanel.ui.applyButton.click()
    host.wait_for(lambda: window.segmentPanel.run is None or window.segmentPanel.run.finished)
    return window.segmentPanel.run


def test_without_a_volume_segment_cannot_be_pressed(window):
    assert not window.segmentPanel.ui.applyButton.enabled
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    assert window.segmentPanel.ui.applyButton.enabled
    window.segmentPanel.ui.inputSelector.setCurrentNode(None)
    assert not window.segmentPanel.ui.applyButton.enabled


def test_the_first_volume_is_chosen_for_the_user(host, client, tiny_model):
    slicer.mrmlScene.Clear(0)
    add_volume("uncertainty").SetAttribute("DiffSeg.Key", "DiffSeg|uncertainty")  # of an answer that lost its volume
    volume = add_volume()
    widget = host.open()
    assert widget.segmentPanel.ui.inputSelector.currentNode() is volume and widget.segmentPanel.ui.applyButton.enabled
    host.close()


def test_a_volume_that_was_loaded_while_the_module_was_left_can_be_segmented_at_once(host, window):
    panel = window.segmentPanel
    assert panel.ui.statusLabel.text.startswith("Load an image")
    window.parent.exit()
    volume = add_volume()
    window.parent.enter()
    assert panel.ui.inputSelector.currentNode() is volume and panel.ui.applyButton.enabled
    assert panel.ui.placeRoiButton.enabled == bool(panel.models.card.field_of_view)
    assert panel.ui.statusLabel.text == "Ready. Press Segment."


def test_the_first_volume_that_is_loaded_while_the_module_is_open_is_chosen(host, window):
    panel = window.segmentPanel
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "without voxels")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    add_volume("of another module").SetHideFromEditors(True)
    volume = add_volume()
    host.wait_for(lambda: panel.ui.applyButton.enabled)
    assert panel.parameters.inputVolume is volume
    add_volume("second")
    host.qt.processEvents()
    assert panel.parameters.inputVolume is volume


def test_three_clicks_from_volume_to_segmentation(host, window):
    volume = add_volume()
    window.segmentPanel.ui.inputSelector.setCurrentNode(volume)
    window.segmentPanel.ui.applyButton.click()
    assert window.segmentPanel.ui.applyButton.text == "Cancel"
    run = window.segmentPanel.run
    host.wait_for(lambda: run.finished)
    assert (
        run.error is None
        and window.segmentPanel.ui.applyButton.text == "Segment"
        and window.segmentPanel.ui.applyButton.enabled
    )
    assert "first" in window.segmentPanel.ui.statusLabel.text and " ml" in window.segmentPanel.ui.statusLabel.text
    np.testing.assert_array_equal(nodes.read_labels(run.node, volume, run.labels), run.mask)
    assert len(run.masks) == 5 and run.steps == []


def test_the_window_uses_the_event_loop_and_no_thread(window, client):
    client.start()
    assert isinstance(client._transport, QtTransport)


def test_a_worker_that_is_faster_than_the_window_leaves_it_time_between_two_masks(host):
    heard = []

    def slow(line):
        heard.append(line)
        time.sleep(0.02)

    transport = QtTransport()
    transport.start([sys.executable, "-c", "input()"], dict(os.environ), slow, lambda _how: None)
    transport._lines.extend([b"1\n", b"2\n", b"3\n"])
    transport._deliver()
    assert heard == [b"1\n"], "the rest waits for another turn of the event loop"
    transport._lines.extend([b"4\n", b"5\n", b"6\n"])
    for _ in range(3):
        transport._onOutput()  # more came meanwhile
    assert heard == [b"1\n"], "it waits for its turn, too"
    sizes = []
    while len(heard) < 6:
        before = len(heard)
        host.qt.processEvents()
        sizes.append(len(heard) - before)
    assert heard == [b"%d\n" % n for n in range(1, 7)] and max(sizes) <= 2, "turns do not grow"
    transport.kill(None)


def test_nothing_stays_of_a_worker_that_was_killed_nor_is_its_late_end_heard(host, monkeypatch):
    """Not its process, nor what listens to it, once the event loop is back."""
    ends, echo = [], "print(input(), flush=True); input()"
    transport = QtTransport()
    transport.start([sys.executable, "-c", echo], dict(os.environ), lambda _line: transport.kill(None), ends.append)
    transport._lines.append(b"1\n")
    transport._turn.start()
    host.wait_for(lambda: transport._process is None)  # killed from within its own signal
    transport._onFinished(9)
    assert ends == []
    left, transport = weakref.ref(transport), None
    host.wait_for(lambda: gc.collect() >= 0 and left() is None, 10.0)


def test_a_cancel_that_is_not_heeded_is_enforced_without_a_window(host, monkeypatch):
    """By the event loop: a run may come from the console, or its window may be gone."""
    monkeypatch.setattr(process, "CANCEL_GRACE", 0.1)
    heard, deaf = [], WorkerClient(patient.COMMAND, QtTransport, dict(os.environ))
    deaf.submit(patient.Sleep("long", 60), heard.append)
    try:
        host.wait_for(lambda: deaf.pid)
        deaf.cancel("long")
        host.wait_for(lambda: heard, 5.0)
        assert heard[0]["message"] == "The job was cancelled." and deaf.pid is None
    finally:
        deaf.shutdown()


def test_a_python_that_is_not_there_ends_the_job_and_nothing_else(host, window, tmp_path):
    """QProcess tells of it from within itself, and must outlive that."""
    missing = WorkerClient([str(tmp_path / "no-such-python")], QtTransport)
    window.logic._client = missing
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    for _ in range(2):
        run = segment(host, window)
        assert "could not be started" in str(run.error)
    assert "could not be started" in window.segmentPanel.ui.statusLabel.text


def test_the_slider_shows_the_mask_of_each_step(host, window):
    volume = add_volume()
    window.segmentPanel.ui.inputSelector.setCurrentNode(volume)
    run = segment(host, window)
    assert (
        window.stepsPanel.ui.stepSlider.enabled
        and window.stepsPanel.ui.stepSlider.value == window.stepsPanel.ui.stepSlider.maximum == 5
    )
    for step in (1, 3, 5):
        window.stepsPanel.ui.stepSlider.value = step
        np.testing.assert_array_equal(nodes.read_labels(run.node, volume, run.labels), run.masks[step - 1])
        assert window.stepsPanel.ui.stepLabel.text.startswith(f"scan DiffSeg: step {step} of 5")
    np.testing.assert_array_equal(run.masks[4], run.mask)


def test_every_setting_reaches_the_run(host, window):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    window.segmentPanel.ui.stepsSpinBox.value = 3
    window.segmentPanel.ui.seedSpinBox.value = 77
    window.segmentPanel.ui.samplerComboBox.setCurrentIndex(1)
    run = segment(host, window)
    record = run.provenance
    assert (record["steps"], record["seed"], record["sampler"], record["model"]) == (3, 77, "ddpm", "tiny")
    assert len(run.masks) == 3 and run.steps == []
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_settings_come_back_with_the_parameter_node(window):
    window.parameterNode.steps = 9
    window.parameterNode.sampler = "ddpm"
    assert window.segmentPanel.ui.stepsSpinBox.value == 9
    assert window.segmentPanel.ui.samplerComboBox.currentText.startswith("DDPM")


def test_settings_outside_their_range_are_refused(window):
    with pytest.raises(ValueError, match=r"."):
        window.parameterNode.steps = 0
    with pytest.raises(ValueError, match=r"."):
        window.parameterNode.sampler = "euler"


def test_cancel_is_the_same_button(host, window):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    window.segmentPanel.ui.stepsSpinBox.value = 1000
    window.segmentPanel.ui.applyButton.click()
    run = window.segmentPanel.run
    host.wait_for(lambda: window.segmentPanel.ui.progressBar.value >= 1)
    window.segmentPanel.ui.applyButton.click()
    assert not window.segmentPanel.ui.applyButton.enabled
    host.wait_for(lambda: run.finished)
    assert window.segmentPanel.ui.applyButton.enabled and window.segmentPanel.ui.applyButton.text == "Segment"
    assert "cancelled" in window.segmentPanel.ui.statusLabel.text
    window.segmentPanel.ui.stepsSpinBox.value = 5
    assert segment(host, window).error is None


def test_a_killed_worker_is_told_in_the_status_line_and_the_next_press_works(host, window, client):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    window.segmentPanel.ui.stepsSpinBox.value = 1000
    window.segmentPanel.ui.applyButton.click()
    host.wait_for(lambda: window.segmentPanel.ui.progressBar.value >= 1)
    os.kill(client.pid, signal.SIGKILL)
    tried("processes killed")
    host.wait_for(lambda: window.segmentPanel.run.finished)
    assert "ended unexpectedly" in window.segmentPanel.ui.statusLabel.text
    window.segmentPanel.ui.stepsSpinBox.value = 2
    assert segment(host, window).error is None


def test_a_volume_without_voxels_gets_a_sentence(window):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    window.segmentPanel.ui.inputSelector.setCurrentNode(empty)
    window.segmentPanel.ui.applyButton.click()
    assert (
        "empty holds no voxels" in window.segmentPanel.ui.statusLabel.text
        and window.segmentPanel.ui.applyButton.text == "Segment"
    )


def test_a_file_that_is_no_model_gets_a_sentence(window, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    count = window.segmentPanel.ui.modelComboBox.count
    window.segmentPanel.useModelFile(str(tmp_path / "x.safetensors"))
    assert (
        "is no model file" in window.segmentPanel.ui.statusLabel.text
        and window.segmentPanel.ui.modelComboBox.count == count
    )


def test_closing_the_scene_during_a_run_leaves_nothing_behind(host, window):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    window.segmentPanel.ui.stepsSpinBox.value = 1000
    window.segmentPanel.ui.applyButton.click()
    run = window.segmentPanel.run
    host.wait_for(lambda: window.segmentPanel.ui.progressBar.value >= 1)
    slicer.mrmlScene.Clear(0)
    host.wait_for(lambda: run.finished)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume("another"))
    window.segmentPanel.ui.stepsSpinBox.value = 2
    assert segment(host, window).error is None


def test_a_window_that_closes_during_a_run_is_not_called_any_more(host, window, client):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    window.segmentPanel.ui.stepsSpinBox.value = 1000
    window.segmentPanel.ui.applyButton.click()
    run = window.segmentPanel.run
    host.wait_for(lambda: window.segmentPanel.ui.progressBar.value >= 1)
    window.cleanup()
    window.segmentPanel.ui = window.stepsPanel.ui = None
    host.wait_for(lambda: run.finished)
    assert run.error is not None and not client.busy
    host._windows.clear()


def test_two_windows_share_one_worker(host, window, client):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    segment(host, window)
    pid = client.pid
    other = host.open()
    other.logic._client = client
    assert segment(host, other) is not None and client.pid == pid


def test_the_self_test_of_the_module_passes(host, client, tiny_model, monkeypatch):
    logic = host.module.DiffSegLogic
    monkeypatch.setattr(logic, "client", property(lambda self: client))
    plain = logic.segment
    monkeypatch.setattr(
        logic, "segment", lambda self, volume, **options: plain(self, volume, model=str(tiny_model), **options)
    )
    host.module.DiffSegTest().runTest()


def test_in_the_source_tree_the_module_takes_the_library_beside_it(host, monkeypatch, tmp_path):
    """Slicer puts the folders of extensions that are installed first, and that of this module last."""
    others = [folder for folder in sys.path if folder != str(ROOT)]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others, str(ROOT)])
    file = ROOT / "DiffSeg" / "DiffSeg.py"
    head, _, rest = file.read_text().partition("\nfrom DiffSegLib")
    exec(compile(head, str(file), "exec"), {"__file__": str(file)})
    assert rest and sys.path[0] == str(ROOT) and sys.path.count(str(ROOT)) == 1


@pytest.mark.skipif(inside_slicer(), reason="opens the module in a process without the application")
def test_the_module_opens_without_torch(tmp_path):
    """In a process of its own, with torch hidden: what a first start in Slicer is like."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    script = "from host.application import Host; w = Host().open(); print(w.segmentPanel.ui.statusLabel.text)"
    paths = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "Testing")])
    environment = {**os.environ, "PYTHONPATH": paths, "QT_QPA_PLATFORM": "offscreen"}
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False, cwd=tmp_path
    )
    assert ended.returncode == 0 and "Load an image" in ended.stdout, ended.stderr[-2000:]
