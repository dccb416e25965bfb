"""A scene that was saved before, or by another version: the window follows what it holds."""

import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import vtk

from DiffSegLib.scene.process import WorkerClient
from host.application import Host, need_window
from test_module import add_volume

need_window()


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture
def window(host, tiny_model):
    slicer.mrmlScene.Clear(0)
    widget = host.open()
    widget.logic._client = WorkerClient()
    widget.segmentPanel.useModelFile(str(tiny_model))
    yield widget
    host.close()
    widget.logic._client.shutdown()


@pytest.mark.parametrize(
    ("name", "text", "default"),
    [
        ("sampler", "euler", "ddim"),
        ("device", "AUTO", "auto"),
        ("steps", "many", 5),
        ("steps", "5.0", 5),
        ("steps", "5000", 5),
        ("samples", "0", 1),
        ("trainPreset", "gone", "default"),
        ("evaluateTolerance", "wide", 1.0),
    ],
)
def test_a_value_that_this_version_does_not_know_becomes_the_default(host, window, name, text, default):
    raw = window.parameterNode.parameterNode
    window.parent.exit()
    raw.SetParameter(name, text)
    raw.SetParameter("seed", "7")
    window.parent.enter()
    assert getattr(window.parameterNode, name) == default
    assert window.parameterNode.seed == 7, "what is known stays"
    assert window.segmentPanel.ui.seedSpinBox.value == 7, "the window is connected"


@pytest.mark.parametrize("clearing", [True, False])
@pytest.mark.parametrize("shown", [True, False])
def test_a_scene_that_is_opened_can_be_segmented_at_once_with_the_volume_that_it_names(
    host, window, tmp_path, clearing, shown
):
    panel = window.segmentPanel
    add_volume("first of the scene")
    panel.ui.inputSelector.setCurrentNode(add_volume())
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    assert panel.ui.inputSelector.currentNode() is None and not panel.ui.applyButton.enabled
    if not shown:
        window.parent.exit()
    slicer.mrmlScene.ReadFromMRB(path, clearing)
    if not shown:
        window.parent.enter()
    host.qt.processEvents()
    volume = slicer.mrmlScene.GetFirstNodeByName("scan")
    assert volume is not None and panel.ui.inputSelector.currentNode() is volume
    assert panel.ui.applyButton.enabled


@pytest.mark.parametrize("clearing", [True, False])
def test_the_region_that_a_scene_names_is_found_when_nothing_else_has_to_be(window, tmp_path, clearing):
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "region")
    window.segmentPanel.ui.roiSelector.setCurrentNode(region)
    assert window.parameterNode.roi is region
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    assert window.parameterNode.roi is None
    slicer.mrmlScene.ReadFromMRB(path, clearing)
    assert window.parameterNode.roi is slicer.mrmlScene.GetFirstNodeByName("region") is not None


def test_to_ask_for_the_parameters_changes_nothing(window):
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "region")
    window.segmentPanel.ui.roiSelector.setCurrentNode(region)
    heard = []
    tag = window.parameterNode.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: heard.append(1))
    assert window.logic.getParameterNode().roi is region and heard == []
    window.parameterNode.parameterNode.RemoveObserver(tag)


def test_a_scene_of_another_version_can_be_opened_while_the_module_is_shown(host, window, tmp_path, capfd):
    panel, raw = window.segmentPanel, window.parameterNode.parameterNode
    panel.ui.inputSelector.setCurrentNode(add_volume())
    window.parent.exit()
    for name, text in (("trainPreset", "gone"), ("sampler", "euler"), ("model", "/no/such/model.safetensors")):
        raw.SetParameter(name, text)
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    window.parent.enter()
    capfd.readouterr()
    slicer.mrmlScene.ReadFromMRB(path, True)
    host.qt.processEvents()
    assert "Traceback" not in capfd.readouterr().err
    assert window.parameterNode.sampler == "ddim" and window.parameterNode.trainPreset == "default"
    text = panel.ui.statusLabel.text
    assert "there is no such model file" in text and "hippocampus is chosen instead" in text


def test_of_steps_that_a_scene_kept_the_section_steps_tells(host, window, tmp_path):
    panel = window.segmentPanel
    panel.ui.inputSelector.setCurrentNode(add_volume())
    panel.ui.applyButton.click()
    host.wait_for(lambda: panel.run is not None and panel.run.finished)
    window.stepsPanel.ui.keepStepsButton.click()
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    assert "kept" not in window.stepsPanel.ui.stepLabel.text
    slicer.mrmlScene.ReadFromMRB(path, True)
    assert "This scene holds 5 steps that were kept" in window.stepsPanel.ui.stepLabel.text


def test_a_run_that_ends_while_the_module_is_left_leaves_the_button_ready(host, window):
    panel = window.segmentPanel
    panel.ui.inputSelector.setCurrentNode(add_volume())
    panel.ui.applyButton.click()
    window.parent.exit()
    host.wait_for(lambda: panel.run is None or panel.run.finished)
    window.parent.enter()
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Segment"
    assert panel.ui.statusLabel.text.startswith("Done")


def test_the_node_is_observed_and_not_its_wrapper(window):
    """What was ever observed is kept, and each wrapper that is kept makes every change of a parameter slower."""
    raw = window.parameterNode.parameterNode
    assert window.logic.getParameterNode() is window.parameterNode, "there is one wrapper, and it stays"
    assert window.hasObserver(raw, vtk.vtkCommand.ModifiedEvent, window.onParametersModified)
    window.parent.exit()
    assert not window.hasObserver(raw, vtk.vtkCommand.ModifiedEvent, window.onParametersModified)
