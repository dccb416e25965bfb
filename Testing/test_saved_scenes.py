"""A scene that was saved before, or by another version: the window follows what it holds."""

from typing import Annotated, get_origin, get_type_hints

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

import one_window
from DiffSegLib.scene import edits, nodes
from DiffSegLib.scene.process import WorkerClient
from host.application import need_window
from test_module import add_volume

need_window()

host = one_window.host  # fixtures


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
def test_a_value_that_this_version_does_not_know_becomes_the_default_and_is_told(host, window, name, text, default):
    raw = window.parameterNode.parameterNode
    window.parent.exit()
    raw.SetParameter(name, text)
    raw.SetParameter("seed", "7")
    window.parent.enter()
    assert getattr(window.parameterNode, name) == default
    assert window.parameterNode.seed == 7, "what is known stays"
    assert window.segmentPanel.ui.seedSpinBox.value == 7, "the window is connected"
    line = window.segmentPanel.ui.statusLabel
    assert line.text.startswith("⚠ The scene has settings") and line.text.endswith(f" “{text}” is now “{default}”.")
    window.parent.exit()
    window.segmentPanel.say("")
    window.parent.enter()
    assert line.text == "", "told once"


def test_each_value_that_can_be_reset_is_told_by_a_name_that_the_window_shows(window):
    from DiffSegLib.scene.panels.evaluate import EvaluateParameters
    from DiffSegLib.scene.panels.reset_text import resetText
    from DiffSegLib.scene.panels.segment import SegmentParameters
    from DiffSegLib.scene.panels.train import TrainParameters

    kinds = (SegmentParameters, TrainParameters, EvaluateParameters)
    fields = {name: hint for each in kinds for name, hint in get_type_hints(each, include_extras=True).items()}
    ruled = [name for name, hint in fields.items() if get_origin(hint) is Annotated or hint in (int, float)]
    assert len(ruled) > 10 and {"sampler", "trainBatch", "evaluateTolerance"} < set(ruled)
    for name in ruled:
        assert f": {name} “" not in resetText({name: "x"}, window.parameterNode)


def test_what_was_reset_in_a_node_that_is_gone_is_forgotten(host):
    from DiffSegLib.scene import parameters

    nodes = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode") for _ in range(2)]
    for node in nodes:
        node.SetParameter("steps", "many")
        parameters._reset(node, "steps")
        slicer.mrmlScene.RemoveNode(node)
    assert [node for node, _, _ in parameters._resets if node is nodes[0]] == []


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
    assert "Sampler “euler” is now “ddim”; Preset of the training “gone” is now “default”." in text


def segment(host, window):
    panel = window.segmentPanel
    panel.ui.applyButton.click()
    host.wait_for(lambda: panel.run is not None and panel.run.finished)
    assert panel.run.error is None
    return panel.run


def reload(host, path):
    """Save the scene and load it again; returns the loaded volume."""
    assert slicer.mrmlScene.WriteToMRB(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.ReadFromMRB(str(path), True)
    host.qt.processEvents()
    return slicer.mrmlScene.GetFirstNodeByName("scan")


def held(run):
    return edits.current_labels(run.node, run.volume, run.labels)


@pytest.mark.parametrize("sequence", [True, False])
def test_the_slider_scrubs_the_steps_that_a_loaded_scene_kept(host, window, tmp_path, sequence):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    window.segmentPanel.ui.samplesSpinBox.value = 2
    masks = segment(host, window).masks
    assert not np.array_equal(masks[0], masks[-1])
    ui = window.stepsPanel.ui
    (ui.sequenceButton if sequence else ui.keepStepsButton).click()
    volume = reload(host, tmp_path / "scene.mrb")
    run, before = window.stepsPanel.run, slicer.mrmlScene.GetNumberOfNodes()
    assert run.volume is volume and run.node.GetScene() is slicer.mrmlScene and run.provenance["seed"] == 0
    assert run.node.GetName() == "scan DiffSeg" and ui.stepLabel.text.startswith(
        "scan DiffSeg: step 5 of 5, the answer"
    )
    assert ui.stepSlider.enabled and ui.playButton.enabled and ui.stepSlider.value == ui.stepSlider.maximum == 5
    for step in (1, 3, 5, 2):
        ui.stepSlider.value = step
        np.testing.assert_array_equal(held(run), masks[step - 1])
    assert "step 2 of 5, not the answer" in ui.stepLabel.text
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert ui.showUncertaintyCheckBox.enabled, "the volume of the uncertainty is there, too"
    ui.keepStepsButton.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) == sequence
    assert len([node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if "|" in key(node)]) == 5


def key(node):
    return node.GetAttribute("DiffSeg.Key") or ""


def test_a_scene_that_was_saved_at_another_step_is_shown_as_it_is(host, window, tmp_path):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    masks = segment(host, window).masks
    window.stepsPanel.ui.keepStepsButton.click()
    window.stepsPanel.ui.stepSlider.value = 2
    reload(host, tmp_path / "scene.mrb")
    run = window.stepsPanel.run
    assert window.stepsPanel.ui.stepSlider.value == 2
    assert "step 2 of 5, not the answer" in window.stepsPanel.ui.stepLabel.text
    np.testing.assert_array_equal(held(run), masks[1])
    window.parent.exit()
    np.testing.assert_array_equal(held(run), masks[-1])
    assert "step" not in run.provenance


def edit(node):
    """What a brush does to a segment, wherever it is."""
    volume = slicer.mrmlScene.GetFirstNodeByName("scan")
    mask = np.zeros(nodes.volume_array(volume).shape, dtype=np.uint8)
    mask[1:4, 1:4, 1:4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, node.GetSegmentation().GetNthSegmentID(0), volume)


@pytest.mark.parametrize("change", ["nothing kept", "edited step", "removed step", "removed answer", "other answer"])
def test_without_the_steps_of_the_answer_there_is_no_slider_and_kept_ones_are_told(host, window, tmp_path, change):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    run, ui, count = segment(host, window), window.stepsPanel.ui, 5
    if change != "nothing kept":
        ui.keepStepsButton.click()
    if change == "edited step":
        edit(run.steps[1])
    elif change == "removed step":
        nodes.remove(run.steps[4])
        count = 4
    elif change == "removed answer":
        nodes.remove(run.node)
    elif change == "other answer":  # the nodes of the steps are those of the run before
        window.segmentPanel.ui.seedSpinBox.value = 5
        slicer.util.arrayFromVolume(run.volume)[:] *= -1.0
        segment(host, window)
    reload(host, tmp_path / "scene.mrb")
    assert window.stepsPanel.run is None and not ui.stepSlider.enabled
    told = f"This scene holds {count} steps that were kept; show them in the module Data."
    assert (told in ui.stepLabel.text) == (change != "nothing kept")


def test_an_answer_that_was_edited_before_saving_is_not_written_over(host, window, tmp_path):
    window.segmentPanel.ui.inputSelector.setCurrentNode(add_volume())
    run, ui = segment(host, window), window.stepsPanel.ui
    ui.keepStepsButton.click()
    edit(run.node)
    work = held(run).copy()
    reload(host, tmp_path / "scene.mrb")
    run = window.stepsPanel.run
    ui.stepSlider.value = 2
    np.testing.assert_array_equal(held(run), work)
    assert not ui.keepEditButton.isHidden() and "was edited" in ui.stepsStatusLabel.text
    ui.keepEditButton.click()
    ui.stepSlider.value = 2
    np.testing.assert_array_equal(held(run), run.masks[1])


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
