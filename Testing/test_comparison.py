"""Comparing two segmentations at the console: on any grid, with the engine's own measures."""

import math

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

import comparison
from comparison import AFFINE, LABELS, SPACING, check_scores, coarse_grid, masks, segmentation
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.jobs import EvaluateJob
from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from host.application import put_temporary

host, client, window = comparison.host, comparison.client, comparison.window  # fixtures
logic, volume, pair = comparison.logic, comparison.volume, comparison.pair


def score(*given):
    """The engine's own measures, in this process."""
    pytest.importorskip("scipy", reason="Slicer's Python has no scipy; install it in the section Environment")
    from DiffSegLib.evaluation import metrics

    return metrics.score(*given)


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


def test_a_comparison_leaves_no_file_behind(logic, pair, tmp_path, monkeypatch):
    put_temporary(monkeypatch, tmp_path)
    assert logic.evaluate(*pair).error is None and list(tmp_path.iterdir()) == []
    again = logic.evaluate(*pair, wait=False)
    logic.cancel(again)
    logic.client.wait(again.number)
    assert list(tmp_path.iterdir()) == []
