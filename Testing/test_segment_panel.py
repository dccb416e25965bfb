"""The section Segment, off screen: every control of it is moved, and what is unusual is told in its own lines."""

import types
from dataclasses import replace

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import segment_window
from DiffSegLib.models.shipped import find, read_card
from DiffSegLib.scene import cameras, expectations, nodes, sample_data
from segment_window import add_volume, choose, press
from test_expectations import add_sequence, head
from tiny_models import write_model

host, client = segment_window.host, segment_window.client  # fixtures
remembered, window, panel = segment_window.remembered, segment_window.window, segment_window.panel
two_channels = segment_window.two_channels


def test_every_setting_reaches_the_run(host, panel):
    choose(panel, add_volume())
    panel.ui.stepsSpinBox.value = 3
    panel.ui.samplerComboBox.setCurrentIndex(1)
    panel.ui.samplesSpinBox.value = 2
    panel.ui.seedSpinBox.value = 77
    panel.ui.deviceComboBox.setCurrentIndex(1)
    run = press(host, panel)
    record = run.provenance
    facts = (record["steps"], record["sampler"], record["samples"], record["seed"], record["device"])
    assert facts == (3, "ddpm", 2, 77, "cpu") and len(run.masks) == 3
    assert run.uncertainty.shape == run.mask.shape and run.uncertainty.max() > 0


def test_one_sample_has_no_uncertainty(host, panel):
    choose(panel, add_volume())
    assert press(host, panel).uncertainty is None


def test_a_device_that_is_not_there_is_told(host, panel):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    choose(panel, add_volume())
    panel.ui.deviceComboBox.setCurrentIndex(2)
    assert press(host, panel).error is not None and "Not done: " in panel.ui.statusLabel.text
    assert "CUDA" in panel.ui.statusLabel.text and "section Environment" in panel.ui.statusLabel.text
    panel.ui.deviceComboBox.setCurrentIndex(0)
    assert press(host, panel).error is None


def test_while_it_runs_the_bar_tells_step_window_and_sample(host, panel):
    choose(panel, add_volume())
    panel.ui.stepsSpinBox.value = 100
    panel.ui.samplesSpinBox.value = 2
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text in ("The engine is starting…", "The engine reads the volume…")
    host.wait_for(lambda: panel.ui.progressBar.value >= 1)
    assert panel.ui.progressBar.format.startswith("Sample 1 of 2, step ")
    assert panel.ui.progressBar.format.endswith(" of 100, window 1 of 1")
    assert panel.ui.statusLabel.text.startswith("After step ")
    panel.ui.applyButton.click()
    host.wait_for(lambda: panel.run.finished)
    assert panel.ui.progressBar.isHidden()


def test_what_the_bar_and_the_line_say(panel):
    panel.run = types.SimpleNamespace(finished=False, masks=[], labels=read_card(find("hippocampus")).labels)
    event = {"event": "progress", "fraction": 0.42, "step": 2, "steps": 5, "window": 3, "windows": 8}
    panel.onEvent({**event, "sample": 1, "samples": 1})
    assert (panel.ui.progressBar.value, panel.ui.progressBar.format) == (42, "Step 2 of 5, window 3 of 8")
    panel.onEvent({**event, "sample": 2, "samples": 3})
    assert panel.ui.progressBar.format == "Sample 2 of 3, step 2 of 5, window 3 of 8"
    panel.line._began -= 100.0
    panel.onEvent({**event, "sample": 1, "samples": 1})
    assert panel.ui.progressBar.format == "Step 2 of 5, window 3 of 8, about 2 min left"
    panel.onEvent({**event, "fraction": 0.8, "sample": 1, "samples": 1})
    assert panel.ui.progressBar.format.endswith(", about 25 s left")
    sizes = {"1": 1.5, "2": 0.25}
    panel.window.panels = [panel]
    panel.onEvent({"event": "step", "step": 2, "steps": 5, "volumes_ml": sizes})
    text = "After step 2 of 5: Anterior hippocampus 1.50 ml, Posterior hippocampus 0.25 ml."
    assert panel.ui.statusLabel.text == text
    panel.run = None


def test_the_first_mask_is_in_the_scene_before_the_run_ends(host, panel):
    choose(panel, add_volume())
    panel.ui.stepsSpinBox.value = 300
    panel.ui.applyButton.click()
    run = panel.run
    host.wait_for(lambda: run.node is not None)
    assert not run.finished and run.node.GetDisplayNode().GetVisibility()
    np.testing.assert_array_equal(nodes.read_labels(run.node, run.volume, run.labels), run.masks[-1])
    panel.ui.applyButton.click()
    host.wait_for(lambda: run.finished)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == [] and "cancelled" in panel.ui.statusLabel.text


# Region


def test_a_region_is_chosen_and_taken(host, panel):
    volume = choose(panel, add_volume())
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    region.SetCenterWorld((9.5, 10.5, 8.5))
    region.SetSize(14, 16, 12)
    panel.ui.roiSelector.setCurrentNode(region)
    assert panel.parameters.roi is region
    run = press(host, panel)
    assert run.provenance["roi"] == [[3, 15], [3, 19], [3, 17]]
    panel.ui.roiSelector.setCurrentNode(None)
    assert panel.parameters.roi is None and press(host, panel).provenance["roi"] is None
    assert run.volume is volume


def test_a_region_outside_gets_a_sentence_and_the_next_press_works(host, panel):
    choose(panel, add_volume())
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    region.SetCenterWorld((900, 0, 0))
    region.SetSize(14, 16, 12)
    panel.ui.roiSelector.setCurrentNode(region)
    assert press(host, panel) is None and "R lies outside of scan" in panel.ui.statusLabel.text
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Segment"
    panel.ui.roiSelector.setCurrentNode(None)
    assert press(host, panel).error is None


def test_a_whole_head_gets_one_hint_and_a_region_to_drag(panel):
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findData("hippocampus"))
    volume = choose(panel, add_volume(head(0, 300, (120, 200, 200)), "whole head"))
    hint = panel.ui.hintLabel.text
    assert "200 × 200 × 120 mm" in hint and "35 × 50 × 36 mm" in hint and "Place region" in hint
    assert "one hippocampus" in hint and "\n" not in hint
    panel.ui.placeRoiButton.click()
    region = panel.parameters.roi
    assert region is panel.ui.roiSelector.currentNode() and region.GetSize() == pytest.approx((35, 50, 36), abs=1e-6)
    assert panel.ui.hintLabel.text == "" and "Drag the region" in panel.ui.statusLabel.text
    panel.ui.placeRoiButton.click()
    assert panel.parameters.roi is region and len(slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")) == 1
    choose(panel, add_volume(blob_case(0, (36, 48, 34))[0], "crop"))
    panel.ui.roiSelector.setCurrentNode(None)
    assert panel.ui.hintLabel.text == "" and volume is not panel.parameters.inputVolume


def test_no_region_is_offered_by_a_model_that_does_not_know_its_size(panel, tmp_path):
    choose(panel, add_volume())
    assert not panel.ui.placeRoiButton.enabled  # the tiny model
    sized = write_model(tmp_path / "sized.safetensors", expects={"field_of_view_mm": [5.0, 5.0, 5.0]})
    panel.useModelFile(str(sized))
    assert panel.ui.placeRoiButton.enabled and "trained on 5 × 5 × 5 mm. On" in panel.ui.hintLabel.text
    panel.ui.inputSelector.setCurrentNode(None)
    assert not panel.ui.placeRoiButton.enabled and panel.ui.hintLabel.text == ""


def test_a_region_cannot_be_placed_on_a_volume_without_voxels(panel, tmp_path):
    sized = write_model(tmp_path / "sized.safetensors", expects={"field_of_view_mm": [5.0, 5.0, 5.0]})
    panel.useModelFile(str(sized))
    choose(panel, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    panel.ui.placeRoiButton.click()
    assert "empty holds no voxels" in panel.ui.statusLabel.text and panel.parameters.roi is None


# Hints


def test_a_hint_on_the_kind_of_image_is_worded_by_how_sure_it_is(host, panel):
    from DiffSegLib.scene.panels.hints import hints

    card = replace(read_card(find("hippocampus")), expects={"modality": "MR"})
    volume = add_volume(head(-1000, 40))
    assert "may be CT; hippocampus was trained on T1 MR" in hints(card, volume, hasRegion=False)
    ct = replace(card, name="liver", channels=("CT",), expects={"modality": "CT"})
    assert "Hounsfield units" in hints(ct, add_volume(head(24, 1064)), hasRegion=False)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volume) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume)
    hierarchy.SetItemAttribute(item, expectations.MODALITY, "CT")
    assert "This volume is CT; hippocampus was trained on T1 MR." in hints(card, volume, hasRegion=True)


def test_a_hint_is_no_refusal(host, panel):
    choose(panel, add_volume(head(-1000, 40, (18, 22, 20))))
    assert "may be CT" in panel.ui.hintLabel.text  # the tiny model's channel is called MRI
    assert press(host, panel).error is None


def test_a_sequence_is_told_before_and_after(host, panel):
    proxy = add_sequence(add_volume(), 3)
    choose(panel, proxy)
    logic = slicer.modules.sequences.logic()
    for frame in (2, 3):  # the hint, which nothing brings up to date, is true of both
        logic.GetFirstBrowserNodeForProxyNode(proxy).SetSelectedItemNumber(frame - 1)
        assert "a sequence of 3 frames: the one that is shown will be segmented" in panel.ui.hintLabel.text
        press(host, panel)
        assert f"shows frame {frame} of 3 of a sequence" in panel.ui.statusLabel.text


# Volumes that cannot be segmented


def unusable(kind):
    if kind == "slice":
        return add_volume(blob_case(0)[0][:1], "slice"), "slice is a single slice"
    if kind == "nan":
        array = blob_case(0)[0].copy()
        array[2, 3, 4] = np.nan
        return add_volume(array, "broken"), "broken: holds values that are not numbers"
    if kind == "empty":
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"), "empty holds no voxels"
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}VolumeNode", kind)
    slicer.util.updateVolumeFromArray(node, np.zeros((4, 4, 4, 3) if kind == "Vector" else (4, 4, 4), np.uint8))
    return node, {"LabelMap": "LabelMap is a label map", "Vector": "Vector is a VectorVolumeNode"}[kind]


@pytest.mark.parametrize("kind", ["slice", "nan", "empty", "LabelMap", "Vector"])
def test_a_volume_that_cannot_be_segmented_gets_a_sentence_and_segment_can_be_pressed_again(host, panel, kind):
    node, words = unusable(kind)
    panel.parameters.inputVolume = node  # the selector does not offer the last two
    count = slicer.mrmlScene.GetNumberOfNodes()
    run = press(host, panel)
    assert (run is None or run.error is not None) and words in panel.ui.statusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Segment"
    choose(panel, add_volume())
    assert press(host, panel).error is None


# Channels


def test_each_further_channel_has_a_selector_while_the_model_needs_it(host, panel, two_channels, tmp_path):
    t1, flair = add_volume(name="t1"), add_volume(blob_case(1)[0], "flair")
    choose(panel, t1)
    assert panel.channels.rows == []
    panel.useModelFile(str(two_channels))
    ((label, selector),) = panel.channels.rows
    assert label.text == "FLAIR:" and not selector.isHidden()
    assert press(host, panel) is None and "choose one for FLAIR" in panel.ui.statusLabel.text
    selector.setCurrentNode(flair)
    run = press(host, panel)
    assert run.error is None and panel.channels.nodes() == [flair]
    three = write_model(tmp_path / "three.safetensors", channels=("T1", "T2", "ADC"))
    panel.useModelFile(str(three))
    assert [label.text for label, _ in panel.channels.rows] == ["T2:", "ADC:"]
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findData("hippocampus"))
    assert all(label.isHidden() and each.isHidden() for label, each in panel.channels.rows)
    assert panel.channels.nodes() == []


def test_the_channels_come_back_with_the_parameter_node(window, panel, two_channels):
    flair = add_volume(name="flair")
    panel.useModelFile(str(two_channels))
    panel.channels.rows[0][1].setCurrentNode(flair)
    window.parent.exit()
    panel.channels.rows[0][1].setCurrentNode(None)  # nobody listens
    window.parent.enter()
    assert panel.channels.nodes() == [flair]
    slicer.mrmlScene.RemoveNode(flair)
    assert panel.channels.nodes() == [None]


# Models


# Loading in advance


def test_the_sample_is_one_click_away_where_no_volume_is_chosen(host, panel, monkeypatch):
    button = panel.ui.sampleButton
    assert panel.parameters.inputVolume is None and not button.isHidden()
    button.click()
    assert panel.parameters.inputVolume.GetName() == sample_data.NAME
    assert button.isHidden() and panel.ui.statusLabel.text == "The sample is loaded. Press Segment."
    assert press(host, panel).error is None

    panel.parameters.inputVolume = None
    slicer.mrmlScene.Clear(0)
    monkeypatch.setattr(sample_data.sample_file, "__defaults__", ("gone.nrrd",))
    panel.ui.sampleButton.click()
    assert panel.ui.statusLabel.text.startswith("⚠ Not done: ") and "sample is missing" in panel.ui.statusLabel.text


def test_a_warning_during_the_run_is_shown_at_once(panel):
    panel.run = types.SimpleNamespace(masks=[], finished=True)
    panel.onEvent({"event": "warning", "text": "scan: memory ran out with the usual windows; went on with less."})
    assert panel.ui.statusLabel.text.startswith("scan: memory ran out")


def test_another_volume_model_or_region_takes_back_what_was_said_of_the_former_one(host, panel):
    choose(panel, add_volume())
    press(host, panel)
    assert panel.ui.statusLabel.text.startswith("Done: scan: first ")
    choose(panel, add_volume(name="second"))
    assert panel.ui.statusLabel.text == "Ready. Press Segment."
    press(host, panel)
    panel.parameters.model = "hippocampus"
    assert panel.ui.statusLabel.text == "Ready. Press Segment."


def test_a_scene_that_is_closed_in_the_middle_leaves_no_word_behind(host, window, panel):
    choose(panel, add_volume())
    panel.parameters.steps = 500
    panel.ui.applyButton.click()
    run = panel.run
    host.wait_for(lambda: run.masks)
    slicer.mrmlScene.Clear(0)
    host.wait_for(lambda: run.finished)
    assert panel.ui.statusLabel.text.startswith("Load an image")
    choose(panel, add_volume())
    assert press(host, panel).error is None and panel.ui.statusLabel.text.startswith("Done: ")


def test_where_nothing_is_found_the_line_says_so(panel):
    run = types.SimpleNamespace(
        error=None, volumesMl={"first": 0.0, "second": 0.0}, volume=add_volume(), warnings=[], finished=True, masks=[]
    )
    panel.window.panels = [panel]
    panel.onFinished(run)
    assert panel.ui.statusLabel.text == "Done: nothing was found in scan."


@pytest.mark.parametrize(("moved", "found", "times"), [(False, 2.0, 1), (True, 2.0, 0), (False, 0.0, 0)])
def test_the_first_answer_is_brought_into_the_3d_views_unless_they_were_turned(panel, monkeypatch, moved, found, times):
    """They look at the origin at first, and the coordinates of a scanner may lie far from it."""
    asked = []
    monkeypatch.setattr(slicer.util, "resetThreeDViews", lambda: asked.append(True))
    monkeypatch.setattr(cameras, "slicer", types.SimpleNamespace(util=slicer.util, app=None), raising=True)
    camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode")
    for view in slicer.util.getNodesByClass("vtkMRMLCameraNode"):  # in Slicer there is one already
        view.SetPosition(0.0, 500.0, 0.0)
        view.SetFocalPoint(0.0, 0.0, 0.0)
    if moved:
        camera.SetPosition(0.0, 400.0, 0.0)
    run = types.SimpleNamespace(error=None, volume=add_volume(), volumesMl={"Liver": found}, warnings=[], finished=True)
    monkeypatch.setattr(panel.window, "tell", lambda *_: None)
    panel.onFinished(run)
    assert asked == [], "without a window there are no views"
    cameras.slicer.app = types.SimpleNamespace(layoutManager=lambda: "there is one")
    panel.onFinished(run)
    assert len(asked) == times


def test_the_same_volume_for_two_channels_is_told(panel, two_channels):
    panel.useModelFile(str(two_channels))
    volume = add_volume()
    choose(panel, volume)
    assert "same volume" not in panel.ui.hintLabel.text
    panel.channels.rows[0][1].setCurrentNode(volume)
    panel.updateFromParameters()
    assert "The same volume is chosen for T1, FLAIR." in panel.ui.hintLabel.text


def test_a_single_slice_is_told_of_before_the_press(panel):
    choose(panel, add_volume(blob_case(0)[0][:1], "slice"))
    assert "slice is a single slice" in panel.ui.hintLabel.text
