"""One step at a time in the answer's node, on real MRML: scrubbed in place."""

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import finished_run
from DiffSegLib.errors import InputError
from DiffSegLib.scene import steps
from finished_run import MASK, count, held, shared_labels

host, volume, run = finished_run.host, finished_run.volume, finished_run.run  # fixtures


def test_scrubbing_shows_each_mask_and_keeps_all_that_the_user_set(run):
    segment, display = run.node.GetSegmentation().GetSegment("Segment_2"), run.node.GetDisplayNode()
    segment.SetName("mine")
    segment.SetColor(0.1, 0.2, 0.3)
    display.SetSegmentVisibility("Segment_1", False)
    display.SetSegmentOpacity2DFill("Segment_2", 0.25)
    image, _ = shared_labels(run.node)
    for step in (1, 3, 2):
        steps.show(run, step)
        np.testing.assert_array_equal(held(run), run.masks[step - 1])
        assert run.node.GetAttribute("DiffSeg.Step") == str(step) and steps.held_step(run) == step
    assert shared_labels(run.node)[0] is image
    assert segment.GetName() == "mine" and segment.GetColor() == pytest.approx((0.1, 0.2, 0.3))
    assert not display.GetSegmentVisibility("Segment_1") and display.GetSegmentOpacity2DFill("Segment_2") == 0.25


def test_two_hundred_scrubs_leave_no_node_behind(run):
    run.node.CreateClosedSurfaceRepresentation()
    before, observers = count(), [run.node.HasObserver(event) for event in ("ModifiedEvent", "AnyEvent")]
    for n in range(200):
        steps.show(run, 1 + n % 3)
    assert count() == before and [run.node.HasObserver(e) for e in ("ModifiedEvent", "AnyEvent")] == observers
    assert run.node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_a_surface_is_made_again_only_where_there_was_one(run):
    segmentation = run.node.GetSegmentation()
    steps.show(run, 1)
    assert not segmentation.ContainsRepresentation("Closed surface")
    run.node.CreateClosedSurfaceRepresentation()
    middle = [0.0] * 3
    centers = []
    for step in (3, 1):
        steps.show(run, step)
        segment = segmentation.GetSegment("Segment_1")
        segment.GetRepresentation("Closed surface").GetCenter(middle)
        centers.append(middle[1])
    assert centers[0] != pytest.approx(centers[1])


def test_while_a_large_volume_is_scrubbed_there_is_no_surface_and_afterwards_there_is(run, monkeypatch):
    monkeypatch.setattr(steps, "LIVE_VOXELS", MASK.size - 1)
    segmentation = run.node.GetSegmentation()
    run.node.CreateClosedSurfaceRepresentation()
    for step in (2, 1):
        steps.show(run, step, live=True)
        np.testing.assert_array_equal(held(run), run.masks[step - 1])
        assert not segmentation.ContainsRepresentation("Closed surface")
    steps.show(run, 1)
    assert segmentation.ContainsRepresentation("Closed surface")
    segmentation.RemoveRepresentation("Closed surface")
    steps.show(run, 2, live=True)
    steps.show(run, 2)
    assert not segmentation.ContainsRepresentation("Closed surface")


@pytest.mark.parametrize("step", [0, 4, -1])
def test_a_step_that_there_is_not_gets_a_sentence(run, step):
    with pytest.raises(InputError, match="steps 1 to 3"):
        steps.show(run, step)


def test_a_removed_segmentation_gets_a_sentence_and_a_removed_volume_does_not_matter(run):
    slicer.mrmlScene.RemoveNode(run.volume)
    steps.show(run, 1)
    np.testing.assert_array_equal(shared_labels(run.node)[1], run.masks[0])
    with pytest.raises(InputError, match="volume of this run was removed"):
        steps.keep(run)
    slicer.mrmlScene.RemoveNode(run.node)
    for action in (lambda: steps.show(run, 1), lambda: steps.keep(run), lambda: steps.keep_as_sequence(run)):
        with pytest.raises(InputError, match="was removed from the scene"):
            action()
