"""Comparing two segmentations: in the window, at the console, on any grid, with the engine's own measures."""

import contextlib
import math

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

from DiffSegLib.errors import Cancelled, DiffSegError, InputError
from DiffSegLib.jobs import EvaluateJob
from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from DiffSegLib.scene.process import WorkerClient
from host.application import Host, need_window, put_temporary

need_window()

SPACING = (2.0, 1.0, 0.8)  # k, j, i
AFFINE = np.diag([0.8, 1.0, 2.0, 1.0])
AFFINE[:3, 3] = (5.0, -7.0, 11.0)
LABELS = (Label(1, "first", (0.9, 0.6, 0.3)), Label(2, "second", (0.2, 0.3, 0.9)))


def score(*given):
    """The engine's own measures, in this process."""
    pytest.importorskip("scipy", reason="Slicer's Python has no scipy; install it in the section Environment")
    from DiffSegLib.evaluation import metrics

    return metrics.score(*given)


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture(scope="module")
def client(host):
    made = WorkerClient()
    yield made
    made.shutdown()


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


# -- what is measured


@pytest.mark.parametrize("tolerance", [0.5, 3.0])
def test_the_measures_are_those_of_the_engine(logic, pair, tolerance):
    result = logic.evaluate(*pair, tolerance=tolerance)
    assert list(result.segments) == ["first", "second"] and result.warnings == [] and result.finished
    for label in LABELS:
        check_scores(result.segments[label.name], score(*masks(), label.value, SPACING, tolerance))


def test_names_are_matched_in_any_case_of_letters_and_order(logic, volume, pair):
    prediction, _ = masks()
    other = segmentation("other", prediction, volume, (Label(1, "SECOND"), Label(2, " First ")))
    result = logic.evaluate(other, pair[1])
    swapped = np.array([0, 2, 1], dtype=np.uint8)[prediction]
    for label in LABELS:
        check_scores(result.segments[label.name], score(swapped, masks()[1], label.value, SPACING))


def test_segments_without_a_partner_are_said_and_left_out(logic, volume, pair):
    other = segmentation("other", masks()[0], volume, (Label(1, "first"), Label(2, "third")))
    result = logic.evaluate(other, pair[1])
    assert list(result.segments) == ["first"]
    assert result.warnings == ["Only in other and not compared: third.", "Only in by hand and not compared: second."]


def test_empty_segments_are_told_apart(logic, volume):
    three = (*LABELS, Label(3, "third"))
    prediction, reference = masks()
    prediction[prediction == 1] = 0
    reference[reference == 2] = 0
    result = logic.evaluate(segmentation("p", prediction, volume, three), segmentation("r", reference, volume, three))
    outcomes = {name: found["outcome"] for name, found in result.segments.items()}
    assert outcomes == {"first": "missed", "second": "spurious", "third": "absent"}
    assert result.segments["first"]["dice"] == 0 and math.isinf(result.segments["first"]["hd95_mm"])
    assert math.isnan(result.segments["third"]["dice"]) and result.segments["third"]["volume_ml"] == 0


def test_overlapping_segments_are_measured_each_for_itself(logic, volume):
    whole = masks()[1] > 0
    core = masks()[1] == 1
    made = []
    for name, shift in (("p", 1), ("r", 0)):
        node = nodes.make_segmentation(volume, name, name, (Label(1, "whole"), Label(2, "core")))
        for identifier, mask in (("Segment_1", whole), ("Segment_2", core)):
            array = np.roll(mask, shift, axis=2).astype(np.uint8)
            slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, identifier, volume)
        assert node.GetSegmentation().GetNumberOfLayers() == 2
        made.append(node)
    result = logic.evaluate(*made)
    for name, mask in (("whole", whole), ("core", core)):
        wanted = score(np.roll(mask, 1, axis=2).astype(np.uint8), mask.astype(np.uint8), 1, SPACING)
        check_scores(result.segments[name], wanted)


def test_an_edited_segmentation_with_a_small_label_map_is_measured_rightly(logic, volume, pair):
    small = np.zeros_like(masks()[0])
    small[5:9, 8:12, 6:11] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(small, pair[0], "Segment_1", volume)
    prediction = np.where(masks()[0] == 2, 2, 0).astype(np.uint8)
    prediction[small > 0] = 1
    result = logic.evaluate(*pair)
    check_scores(result.segments["first"], score(prediction, masks()[1], 1, SPACING))


def test_a_model_of_surfaces_alone_can_be_compared(logic, volume, pair):
    surfaces = segmentation("surfaces", masks()[1], volume)
    surfaces.CreateClosedSurfaceRepresentation()
    surfaces.SetSourceRepresentationToClosedSurface()
    surfaces.RemoveBinaryLabelmapRepresentation()
    result = logic.evaluate(surfaces, pair[1])
    assert all(found["dice"] > 0.85 and found["hd95_mm"] < 2.0 for found in result.segments.values())
    assert not surfaces.GetSegmentation().ContainsRepresentation("Binary labelmap")


# -- grids and transforms


def coarse_grid():
    """A volume on another grid: half as many voxels along i, shifted and turned."""
    affine = np.array([[0.0, 1.1, 0, 4.0], [1.6, 0, 0, -8.0], [0, 0, 1.9, 10.0], [0, 0, 0, 1]])
    return nodes.make_volume("other grid", np.zeros((20, 16, 16), np.float32), affine)


def test_another_grid_is_resampled_to_the_references_and_said(logic, pair):
    other = coarse_grid()
    prediction = segmentation("elsewhere", nodes.read_labels(pair[0], other, LABELS), other)
    result = logic.evaluate(prediction, pair[1])
    assert result.warnings == ["elsewhere was resampled to the grid of by hand (nearest neighbour)."]
    wanted = nodes.read_labels(prediction, slicer.util.getNode("scan"), LABELS)
    for label in LABELS:
        check_scores(result.segments[label.name], score(wanted, masks()[1], label.value, SPACING))


def test_a_chosen_volume_gives_the_grid(logic, pair):
    other = coarse_grid()
    result = logic.evaluate(*pair, volume=other)
    assert len(result.warnings) == 2 and all("resampled to the grid of other grid" in text for text in result.warnings)
    arrays = [nodes.read_labels(node, other, LABELS) for node in pair]
    for label in LABELS:
        check_scores(result.segments[label.name], score(*arrays, label.value, (1.9, 1.1, 1.6)))


def shifted(node, mm, name="shift"):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(1, 3, mm)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def test_a_transform_on_one_of_them_counts(logic, volume, pair):
    shifted(pair[0], 2.0)  # to the front, two voxels along j backwards
    result = logic.evaluate(*pair)
    assert result.warnings == ["automatic was resampled to the grid of by hand (nearest neighbour)."]
    moved = np.roll(masks()[0], -2, axis=1)
    for label in LABELS:
        check_scores(result.segments[label.name], score(moved, masks()[1], label.value, SPACING))


def test_a_bent_transform_is_followed_too(logic, volume, pair):
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    warp = vtk.vtkThinPlateSplineTransform()
    points, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-200.0, 200.0):
        for y in (-200.0, 200.0):
            for z in (-200.0, 200.0):
                points.InsertNextPoint(x, y, z)
                moved.InsertNextPoint(x, y + 2.0, z)
    warp.SetSourceLandmarks(points)
    warp.SetTargetLandmarks(moved)
    warp.SetBasisToR()
    bent.SetAndObserveTransformToParent(warp)
    pair[0].SetAndObserveTransformNodeID(bent.GetID())
    assert not bent.IsTransformToWorldLinear()
    wanted = np.roll(masks()[0], -2, axis=1)  # this bend is a shift
    check_scores(logic.evaluate(*pair).segments["first"], score(wanted, masks()[1], 1, SPACING))


def test_one_transform_on_both_changes_nothing(logic, volume, pair):
    transform = shifted(pair[0], 25.0)
    for node in (pair[1], volume):
        node.SetAndObserveTransformNodeID(transform.GetID())
    for grid in (None, volume):
        result = logic.evaluate(*pair, volume=grid)
        assert result.warnings == []
        for label in LABELS:
            check_scores(result.segments[label.name], score(*masks(), label.value, SPACING))


def test_a_single_voxel_that_leaves_the_grid_is_said(logic, pair):
    last = int(np.argwhere(masks()[0] > 0)[:, 1].max())
    shifted(pair[0], -(21.0 - last))
    assert len(logic.evaluate(*pair).warnings) == 1
    shifted(pair[0], -(22.0 - last))
    assert "Parts of automatic lie outside of the grid of by hand" in logic.evaluate(*pair).warnings[1]


def test_what_lies_outside_of_the_grid_is_said(logic, pair):
    part = nodes.make_volume("part", np.zeros((18, 11, 20), np.float32), AFFINE)
    result = logic.evaluate(*pair, volume=part)
    assert "Parts of automatic lie outside of the grid of part and are left out." in result.warnings
    check_scores(result.segments["first"], score(*(mask[:, :11] for mask in masks()), 1, SPACING))


def test_a_reference_that_names_no_grid_needs_a_volume(logic, volume, pair):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bare")
    node.GetSegmentation().AddEmptySegment("a", "first")
    with pytest.raises(InputError, match="bare does not say on which grid it was drawn; choose a volume"):
        logic.evaluate(pair[0], node)
    assert logic.evaluate(pair[0], node, volume=volume).segments["first"]["outcome"] == "spurious"


# -- the nodes


def test_the_table_has_typed_columns_and_is_updated_in_place(logic, volume, pair):
    result = logic.evaluate(*pair)
    table = result.table
    assert table.GetName() == "automatic compared with by hand"
    assert cells(table, "Segment") == ["first", "second"] and cells(table, "Outcome") == ["found", "found"]
    assert column(table, "Segment").GetDataType() == vtk.VTK_STRING
    assert column(table, "HD95 [mm]").GetDataType() == vtk.VTK_DOUBLE
    assert cells(table, "Dice") == [pytest.approx(found["dice"], abs=1e-4) for found in result.segments.values()]
    assert "surface" in table.GetColumnDescription("NSD") and table.GetAttribute("DiffSeg.ToleranceMm") == "1"
    table.SetName("renamed by the user")
    count = slicer.mrmlScene.GetNumberOfNodes()
    nodes.write_labels(pair[0], masks()[1], volume, LABELS)
    again = logic.evaluate(*pair)
    assert again.table is table and slicer.mrmlScene.GetNumberOfNodes() == count
    assert cells(table, "Dice") == [1.0, 1.0] and table.GetName() == "renamed by the user"
    assert logic.evaluate(pair[1], pair[0]).table is not table


def test_the_chart_has_a_series_of_bars_in_the_color_of_each_segment(logic, volume, pair):
    result = logic.evaluate(*pair)
    assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode") == []
    chart = logic.showEvaluation(result)
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [node.GetName() for node in series] == ["first", "second"]
    for node, label in zip(series, LABELS, strict=True):
        assert node.GetPlotType() == node.PlotTypeBar and node.GetColor() == pytest.approx(label.color, abs=0.01)
        found = result.segments[label.name]
        bars = cells(node.GetTableNode(), node.GetYColumnName())
        assert bars == [pytest.approx(found[key]) for key in ("dice", "iou", "nsd")]
        assert cells(node.GetTableNode(), node.GetLabelColumnName())[0] == "Dice"
    assert chart.GetXAxisTitle() == "0: Dice,   1: IoU,   2: NSD at 1 mm" and chart.GetYAxisRange() == (0.0, 1.0)
    count = slicer.mrmlScene.GetNumberOfNodes()
    nodes.write_labels(pair[0], masks()[1], volume, LABELS)
    assert cells(series[0].GetTableNode(), series[0].GetYColumnName())[0] < 1
    again = logic.evaluate(*pair)
    assert cells(series[0].GetTableNode(), series[0].GetYColumnName()) == [1.0, 1.0, 1.0]
    assert logic.showEvaluation(again) is chart and slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_series_whose_segment_is_gone_is_removed(logic, pair):
    chart = logic.showEvaluation(logic.evaluate(*pair))
    pair[0].GetSegmentation().GetSegment("Segment_2").SetName("new name")
    logic.evaluate(*pair)
    assert chart.GetNumberOfPlotSeriesNodes() == len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 1


def test_table_and_chart_come_back_from_a_scene_file(host, logic, pair, tmp_path):
    table = logic.evaluate(*pair).table
    logic.showEvaluation(logic.evaluate(*pair))
    wanted, name = cells(table, "ASD [mm]"), table.GetName()
    host.scene_host.save_bundle(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    host.scene_host.read_bundle(tmp_path / "scene.mrb")
    read = slicer.util.getNode(name)
    assert column(read, "ASD [mm]").GetDataType() == vtk.VTK_DOUBLE
    assert cells(read, "ASD [mm]") == [pytest.approx(value) for value in wanted]
    predicted, present = (slicer.util.getNode(other) for other in ("automatic", "by hand"))
    count = slicer.mrmlScene.GetNumberOfNodes()
    logic.showEvaluation(logic.evaluate(predicted, present))
    assert slicer.mrmlScene.GetNumberOfNodes() == count


# -- mistakes, cancelling


def test_a_mistake_gets_a_sentence_and_leaves_the_scene(logic, volume, pair):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    twice = segmentation("twice", masks()[0], volume, (Label(1, "first"), Label(2, "First")))
    other = segmentation("other", masks()[0], volume, (Label(1, "kidney"), Label(2, "liver")))
    bare = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "bare")
    count = slicer.mrmlScene.GetNumberOfNodes()
    for arguments, words in (
        ((None, pair[1]), "Choose a segmentation as the prediction first"),
        ((pair[0], volume), "Choose a segmentation as the reference first"),
        ((pair[0], pair[0]), "automatic is both prediction and reference"),
        ((empty, pair[1]), "empty has no segments"),
        ((twice, pair[1]), "twice has two segments called First"),
        ((other, pair[1]), r"No segment of other \(kidney, liver\) is called like one of by hand \(first, second\)"),
        ((*pair, bare), "bare holds no voxels"),
        ((*pair, None, -1.0), "tolerance is -1.0"),
        ((*pair, None, math.nan), "tolerance is nan"),
    ):
        with pytest.raises(InputError, match=words):
            logic.evaluate(*arguments)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    with pytest.raises(InputError, match="evaluate first"):
        logic.showEvaluation(logic.evaluate(*pair, wait=False))
    logic.client.wait(next(iter(logic.client._listeners)))


def test_without_waiting_the_call_returns_at_once_and_calls_back(logic, client, pair):
    ended, heard = [], []
    result = logic.evaluate(*pair, wait=False, onFinished=ended.append, onEvent=heard.append)
    assert not result.finished and result.table is None
    client.wait(result.number)
    assert ended == [result] and result.error is None and result.table is not None
    assert [event["fraction"] for event in heard if event["event"] == "progress"] == [0.5, 1.0]


def test_cancelling_a_waiting_comparison_leaves_the_running_segmentation(logic, client, pair, volume, tiny_model):
    run = logic.segment(volume, model=str(tiny_model), steps=100, keepSteps=False, wait=False)
    while client.pid is None:
        client.pump(0.1)
    pid, ended = client.pid, []
    waiting = logic.evaluate(*pair, wait=False, onFinished=ended.append)
    logic.cancel(waiting)
    assert ended == [waiting] and isinstance(waiting.error, Cancelled) and not run.finished
    client.wait(run.number)
    assert run.error is None and client.pid == pid
    assert logic.evaluate(*pair).error is None and client.pid == pid


def test_a_segmentation_that_was_removed_meanwhile_is_said(logic, client, pair):
    result = logic.evaluate(*pair, wait=False)
    slicer.mrmlScene.RemoveNode(pair[0])
    client.wait(result.number)
    assert "removed from the scene" in str(result.error) and result.table is None


@pytest.mark.parametrize(
    "change",
    [{"pairs": 3}, {"pairs": [[1, 2]]}, {"spacing": [1, 1]}, {"spacing": [1, 1, 0]}, {"tolerance_mm": "wide"}],
)
def test_a_malformed_job_is_refused(change):
    mask = ["a.npy", 1]
    job = {"do": "evaluate", "id": "x", "pairs": [[mask, mask]], "spacing": [1, 1, 1]}
    assert EvaluateJob.from_json(job).pairs == ((("a.npy", 1), ("a.npy", 1)),)
    with pytest.raises(InputError):
        EvaluateJob.from_json({**job, **change})


# -- the window


def evaluate(host, window):
    panel = window.evaluatePanel
    panel.ui.evaluateButton.click()
    host.wait_for(lambda: panel.ui.evaluateButton.text == "Evaluate")
    return panel.evaluation


def choose(window, pair):
    window.evaluatePanel.ui.evaluatePredictionSelector.setCurrentNode(pair[0])
    window.evaluatePanel.ui.evaluateReferenceSelector.setCurrentNode(pair[1])


def test_evaluate_can_be_pressed_once_two_are_chosen(window, pair):
    ui = window.evaluatePanel.ui
    window.parameterNode.evaluatePrediction = window.parameterNode.evaluateReference = None
    assert not ui.evaluateButton.enabled and "Choose two segmentations" in ui.evaluateStatusLabel.text
    ui.evaluatePredictionSelector.setCurrentNode(pair[0])
    assert not ui.evaluateButton.enabled
    ui.evaluateReferenceSelector.setCurrentNode(pair[1])
    assert ui.evaluateButton.enabled and not ui.evaluateChartButton.enabled


def test_the_button_gives_a_table_a_sentence_and_a_chart(host, window, pair):
    choose(window, pair)
    ui = window.evaluatePanel.ui
    ui.evaluateButton.click()
    assert ui.evaluateButton.text == "Cancel"
    host.wait_for(lambda: ui.evaluateButton.text == "Evaluate")
    result = window.evaluatePanel.evaluation
    dice = f"first Dice {result.segments['first']['dice']:.3f}, HD95"
    assert dice in ui.evaluateStatusLabel.text and "second Dice" in ui.evaluateStatusLabel.text
    assert ui.evaluateTableView.mrmlTableNode() is result.table
    ui.evaluateChartButton.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 1


def test_every_setting_reaches_the_comparison(host, window, pair):
    choose(window, pair)
    other = coarse_grid()
    window.evaluatePanel.ui.evaluateVolumeSelector.setCurrentNode(other)
    window.evaluatePanel.ui.evaluateToleranceSpinBox.value = 2.5
    result = evaluate(host, window)
    assert result.tolerance == 2.5 and "grid of other grid" in window.evaluatePanel.ui.evaluateStatusLabel.text
    assert result.segments["first"] == window.logic.evaluate(*pair, volume=other, tolerance=2.5).segments["first"]


def test_empty_and_unmatched_segments_are_said_in_the_status_line(host, window, volume, pair):
    labels = tuple(Label(n, name) for n, name in enumerate(("first", "second", "third", "fourth"), 1))
    prediction = masks()[0]
    prediction[prediction == 2] = 0
    choose(window, (segmentation("p", prediction, volume, labels), pair[1]))
    evaluate(host, window)
    text = window.evaluatePanel.ui.evaluateStatusLabel.text
    assert "Empty in the prediction: second." in text and "Only in p and not compared: third, fourth." in text


def test_many_segments_are_summed_up(host, window, volume):
    labels = tuple(Label(n, f"part {n}") for n in range(1, 7))
    parts = np.zeros(blob_case(0)[0].shape, dtype=np.uint8)
    for n in range(1, 7):
        parts[2:6, 3 * n : 3 * n + 2, 4:9] = n
    choose(window, (segmentation("p", parts, volume, labels), segmentation("r", parts, volume, labels)))
    evaluate(host, window)
    assert window.evaluatePanel.ui.evaluateStatusLabel.text == "Done: mean Dice 1.000 of 6 segments."


def test_a_mistake_is_said_in_the_status_line(window, pair):
    choose(window, (pair[0], pair[0]))
    window.evaluatePanel.ui.evaluateButton.click()
    ui = window.evaluatePanel.ui
    assert ui.evaluateStatusLabel.text.startswith("⚠ Not done: automatic is both") and ui.evaluateButton.enabled


def test_after_a_mistake_nothing_looks_like_its_result(host, window, pair):
    choose(window, pair)
    table = evaluate(host, window).table
    ui = window.evaluatePanel.ui
    assert not ui.evaluateTableView.isHidden() and ui.evaluateChartButton.enabled
    choose(window, (pair[0], pair[0]))
    ui.evaluateButton.click()
    assert ui.evaluateTableView.isHidden() and not ui.evaluateChartButton.enabled
    choose(window, pair)
    assert evaluate(host, window).table is table
    assert not ui.evaluateTableView.isHidden() and ui.evaluateChartButton.enabled


def test_the_same_button_cancels(host, window, client, pair, volume, tiny_model):
    client.start()
    run = window.logic.segment(volume, model=str(tiny_model), steps=100, keepSteps=False, wait=False)
    choose(window, pair)
    ui = window.evaluatePanel.ui
    ui.evaluateButton.click()
    ui.evaluateButton.click()
    host.wait_for(lambda: ui.evaluateButton.text == "Evaluate")
    assert "cancelled" in ui.evaluateStatusLabel.text and not ui.evaluateStatusLabel.text.startswith("Not done")
    host.wait_for(lambda: run.finished)
    assert run.error is None and evaluate(host, window).error is None


def test_a_table_that_was_deleted_cannot_be_charted(host, window, pair):
    choose(window, pair)
    slicer.mrmlScene.RemoveNode(evaluate(host, window).table)
    window.evaluatePanel.ui.evaluateChartButton.click()
    assert "evaluate first" in window.evaluatePanel.ui.evaluateStatusLabel.text
    assert not window.evaluatePanel.ui.evaluateChartButton.enabled


def test_closing_the_scene_during_a_comparison_leaves_nothing_behind(host, window, client, pair):
    choose(window, pair)
    window.evaluatePanel.ui.evaluateButton.click()
    result = window.evaluatePanel.evaluation
    slicer.mrmlScene.Clear(0)
    host.wait_for(lambda: result.finished and not client.busy)
    assert slicer.util.getNodesByClass("vtkMRMLTableNode") == [] and isinstance(result.error, DiffSegError)
    assert window.evaluatePanel.ui.evaluateTableView.mrmlTableNode() is None


def test_a_window_that_closes_during_a_comparison_is_not_called_any_more(host, window, client, pair):
    choose(window, pair)
    window.evaluatePanel.ui.evaluateButton.click()
    result = window.evaluatePanel.evaluation
    window.cleanup()
    window.evaluatePanel.ui = None
    host.wait_for(lambda: result.finished)
    host._windows.clear()


def test_a_fresh_segmentation_is_offered_as_prediction(host, window, volume, tiny_model):
    window.parameterNode.evaluatePrediction = None
    window.segmentPanel.useModelFile(str(tiny_model))
    window.segmentPanel.ui.inputSelector.setCurrentNode(volume)
    window.segmentPanel.ui.applyButton.click()
    host.wait_for(lambda: window.segmentPanel.run.finished)
    assert window.parameterNode.evaluatePrediction is window.segmentPanel.run.node


def test_a_comparison_leaves_no_file_behind(logic, pair, tmp_path, monkeypatch):
    put_temporary(monkeypatch, tmp_path)
    assert logic.evaluate(*pair).error is None and list(tmp_path.iterdir()) == []
    again = logic.evaluate(*pair, wait=False)
    logic.cancel(again)
    logic.client.wait(again.number)
    assert list(tmp_path.iterdir()) == []


def choose_two(window):
    volume = nodes.make_volume("scan", blob_case(0)[0], AFFINE)
    prediction, reference = masks()
    window.parameterNode.evaluatePrediction = segmentation("automatic", prediction, volume)
    window.parameterNode.evaluateReference = segmentation("by hand", reference, volume)


def test_whatever_goes_wrong_the_button_is_ready_again(host, window, monkeypatch):
    panel = window.evaluatePanel
    choose_two(window)
    monkeypatch.setattr(window.logic, "evaluate", lambda *_a, **_k: (_ for _ in ()).throw(MemoryError("no room")))
    with contextlib.suppress(MemoryError):
        panel.onEvaluate()
    assert panel.ui.evaluateButton.text == "Evaluate" and panel.ui.evaluateButton.enabled
    assert "no room" in panel.ui.evaluateStatusLabel.text


def test_the_end_of_a_comparison_of_a_closed_scene_is_not_that_of_the_next(host, window):
    panel = window.evaluatePanel
    choose_two(window)
    panel.ui.evaluateButton.click()
    first = panel.evaluation
    slicer.mrmlScene.Clear(0)
    choose_two(window)
    panel.ui.evaluateButton.click()
    second = panel.evaluation
    host.wait_for(lambda: first.finished)
    assert second.finished or panel.ui.evaluateButton.text == "Cancel"
    host.wait_for(lambda: second.finished)
    assert second.error is None and "Done" in panel.ui.evaluateStatusLabel.text
