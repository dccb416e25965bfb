"""What the user edited in a step or an answer is never written over, also by a run that goes on."""

import gc

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

import finished_run
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.scene import answer, edits, steps
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import WorkerClient
from DiffSegLib.scene.transport import PipeTransport
from finished_run import LABELS, MASK, count, edit, held, shared_labels

host, volume, run = finished_run.host, finished_run.volume, finished_run.run  # fixtures


def paint_over(run):
    """Overlapping segments: each gets a layer of its own."""
    grown = (held(run) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(grown, run.node, "Segment_1", run.volume)


def shrink(run):
    small = np.zeros_like(MASK)
    small[5:8, 5:8, 5:8] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(small, run.node, "Segment_1", run.volume)


EDITS = {
    "a brush": lambda run: edit(run.node),
    "another label map": shrink,
    "an overlap": paint_over,
    "a removed segment": lambda run: run.node.GetSegmentation().RemoveSegment("Segment_2"),
}


@pytest.mark.parametrize("way", EDITS)
def test_an_edit_is_never_written_over(run, way):
    steps.show(run, 2)
    EDITS[way](run)
    arrays = {i: slicer.util.arrayFromSegmentBinaryLabelmap(run.node, i, run.volume).copy()
              for i in run.node.GetSegmentation().GetSegmentIDs()}  # fmt: skip
    with pytest.raises(steps.Edited, match="scan DiffSeg was edited"):
        steps.show(run, 1)
    edited = steps.keep_edit(run)
    assert edited is not run.node and edited.GetName() == "scan DiffSeg edited" and run.node.GetName() == "scan DiffSeg"
    steps.show(run, 1)
    np.testing.assert_array_equal(held(run), run.masks[0])
    for identifier, array in arrays.items():
        now = slicer.util.arrayFromSegmentBinaryLabelmap(edited, identifier, run.volume)
        np.testing.assert_array_equal(now, array)
    assert not edited.GetDisplayNode().GetVisibility() and run.node.GetDisplayNode().GetVisibility()


@pytest.mark.parametrize("move", [(0, 0, 0), (-1, -2, 1)])
def test_what_a_label_map_of_another_extent_holds_is_compared_voxel_for_voxel(run, move):
    """Slicer's tools shrink and grow label maps; an edit beyond the volume counts, empty space does not."""
    image, view = shared_labels(run.node)
    values = view.copy()
    low = [a + b for a, b in zip((-2, 3, -1), move, strict=True)]
    grown = np.zeros([n + 4 for n in MASK.shape], np.uint8)
    for k, j, i in np.argwhere(values):
        grown[k - low[0], j - low[1], i - low[2]] = values[k, j, i]
    fresh = slicer.vtkOrientedImageData()
    fresh.DeepCopy(image)
    fresh.SetExtent(*(n for a, size in zip(low[::-1], grown.shape[::-1], strict=True) for n in (a, a + size - 1)))
    fresh.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(fresh.GetPointData().GetScalars()).reshape(grown.shape)[:] = grown
    segmentation = run.node.GetSegmentation()
    for identifier in segmentation.GetSegmentIDs():
        segmentation.GetSegment(identifier).AddRepresentation("Binary labelmap", fresh)
    assert steps.held_step(run) == 3
    vtk_to_numpy(fresh.GetPointData().GetScalars()).reshape(grown.shape)[0, 0, 0] = 1  # outside of the volume
    assert steps.held_step(run) is None


def test_an_edit_that_was_undone_is_none(run):
    edit(run.node)
    image, view = shared_labels(run.node)
    view[:] = run.masks[2]
    image.Modified()
    steps.show(run, 1)
    np.testing.assert_array_equal(held(run), run.masks[0])


def test_a_segment_that_the_user_added_survives_scrubbing(run):
    segmentation = run.node.GetSegmentation()
    own = segmentation.AddEmptySegment("", "lesion")
    lesion = np.zeros_like(MASK)
    lesion[6:12, 6:16, 6:14] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(lesion, run.node, own, run.volume)
    for step in (1, 2, 3):
        steps.show(run, step)
        np.testing.assert_array_equal(held(run), run.masks[step - 1])
        found = slicer.util.arrayFromSegmentBinaryLabelmap(run.node, own, run.volume)
        np.testing.assert_array_equal(found, lesion)


def test_the_new_node_looks_like_the_edited_one(run):
    run.node.GetSegmentation().GetSegment("Segment_1").SetName("mine")
    run.node.GetDisplayNode().SetSegmentOpacity3D("Segment_1", 0.5)
    run.node.CreateClosedSurfaceRepresentation()
    edit(run.node)
    run.node.CreateClosedSurfaceRepresentation()
    steps.keep_edit(run)
    assert run.node.GetSegmentation().GetSegment("Segment_1").GetName() == "mine"
    assert run.node.GetDisplayNode().GetSegmentOpacity3D("Segment_1") == 0.5
    assert run.node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_an_edit_is_known_as_one_in_a_scene_that_was_saved_and_read_again(run, host, tmp_path):
    steps.show(run, 2)
    host.save_bundle(tmp_path / "plain.mrb")
    edit(run.node)
    host.save_bundle(tmp_path / "edited.mrb")
    for name in ("plain", "edited"):
        host.scene.Clear(0)
        host.read_bundle(tmp_path / f"{name}.mrb")
        node, volume = slicer.util.getNode("scan DiffSeg"), slicer.util.getNode("scan")
        assert edits.holds_work(node, volume, LABELS) == (name == "edited")


def test_a_segment_of_the_users_is_work_only_where_other_labels_take_the_place_of_all(run):
    run.node.GetSegmentation().AddEmptySegment("", "lesion")
    assert not edits.holds_work(run.node, run.volume, LABELS)
    assert edits.holds_work(run.node, run.volume, LABELS[:1])


@pytest.fixture(scope="module")
def client():
    made = WorkerClient(transport=PipeTransport)
    yield made
    made.shutdown()


def test_a_run_brings_its_steps_their_noise_and_its_uncertainty(volume, client, tiny_model):
    logic = SegmentLogic(client)
    result = logic.segment(volume, model=str(tiny_model), samples=2, uncertainty=True, keepSteps=True)
    assert result.noise[0] == 1.0 and sorted(result.noise, reverse=True) == result.noise and result.stepCount == 5
    assert len(result.steps) == 5 and steps.held_step(result) == 5
    assert result.uncertaintyNode.GetName() == "scan DiffSeg uncertainty"
    logic.showStep(result, 2)
    np.testing.assert_array_equal(held(result), result.masks[1])
    plain = logic.segment(volume, model=str(tiny_model), seed=1)
    assert plain.steps == [] and plain.uncertainty is None and plain.node is result.node
    assert any(text.startswith("scan DiffSeg step 1 and the steps beside it are of the ans") for text in plain.warnings)
    assert logic.steps(plain) == result.steps
    assert logic.steps(plain, asSequence=True)[0].GetNumberOfDataNodes() == 5


def test_a_run_on_an_edited_answer_leaves_the_edit_and_says_so(volume, client, tiny_model):
    logic = SegmentLogic(client)
    first = logic.segment(volume, model=str(tiny_model))
    logic.showStep(first, 2)
    again = logic.segment(volume, model=str(tiny_model), seed=1)
    assert again.node is first.node and again.warnings == []  # scrubbing is no edit
    edit(again.node)
    edited = held(again).copy()
    third = logic.segment(volume, model=str(tiny_model), seed=2)
    assert third.node is not again.node and again.node.GetName() == "scan DiffSeg edited"
    assert third.node.GetName() == "scan DiffSeg" and not again.node.GetDisplayNode().GetVisibility()
    np.testing.assert_array_equal(held(third, again.node), edited)
    np.testing.assert_array_equal(held(third), third.mask)
    assert "kept as scan DiffSeg edited" in third.warnings[0]


def test_a_run_that_fails_gives_the_edited_answer_back(volume, client, tiny_model):
    logic = SegmentLogic(client)
    first = logic.segment(volume, model=str(tiny_model))
    edit(first.node)
    edited, attributes = held(first).copy(), first.node.GetAttributeNames()
    before = count()

    def stop(event):
        if event["event"] == "step":
            logic.cancel(result)

    result = logic.segment(volume, model=str(tiny_model), steps=1000, onEvent=stop, wait=False)
    client.wait(result.number)
    assert isinstance(result.error, Cancelled) and count() == before
    assert first.node.GetName() == "scan DiffSeg" and first.node.GetAttributeNames() == attributes
    assert first.node.GetDisplayNode().GetVisibility()
    np.testing.assert_array_equal(held(first), edited)


@pytest.mark.parametrize("ending", ["done", "cancelled"])
def test_an_edit_while_the_run_goes_on_is_left_to_the_user(volume, client, tiny_model, ending):
    logic, edited = SegmentLogic(client), []

    def listen(event):
        if event["event"] == "step" and event["step"] == 2:
            edit(result.node)
            edited.append((result.node, held(result).copy()))
            with pytest.raises(steps.Edited):
                logic.showStep(result, 1)
            with pytest.raises(InputError, match="kept by itself"):
                logic.keepEdit(result)
            if ending == "cancelled":
                logic.cancel(result)

    number = 5 if ending == "done" else 1000
    result = logic.segment(volume, model=str(tiny_model), steps=number, onEvent=listen, wait=False)
    client.wait(result.number)
    node, mine = edited[0]
    assert node.GetScene() is not None and node.GetName() == "scan DiffSeg edited"
    np.testing.assert_array_equal(held(result, node), mine)
    if ending == "done":
        assert result.error is None and result.node is not node and "edited" in result.warnings[0]
        np.testing.assert_array_equal(held(result), result.mask)
    else:
        assert isinstance(result.error, Cancelled)
        assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == [node]


def test_what_was_copied_to_be_put_back_is_freed(run):
    """A node that a class makes for Python counts twice, and would stay for ever with its voxels."""
    freed = []
    copy = answer._copy(run.node)
    copy.AddObserver("DeleteEvent", lambda *_: freed.append(True))
    del copy
    gc.collect()
    assert freed == [True]
