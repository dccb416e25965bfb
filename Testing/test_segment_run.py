"""A run on real MRML: its mask is there from the first step on, and it leaves no trace if it comes to nothing."""

import os

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import scene_run
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import Cancelled
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.scene import nodes
from host.application import put_temporary
from scene_run import add_volume, cancel_after, everything, held
from test_roi import add_transform
from tiny_models import answer_of, write_model

host, scene, client = scene_run.host, scene_run.scene, scene_run.client  # fixtures
logic, volume = scene_run.logic, scene_run.volume


def test_the_first_mask_is_there_with_the_first_step_and_the_node_stays_the_same(logic, volume, tiny_model):
    seen = []

    def listen(event):
        if event["event"] == "step":
            seen.append((run.node, nodes.read_labels(run.node, volume, run.labels), run.finished))

    run = logic.segment(volume, tiny_model, onEvent=listen, wait=False)
    logic.client.wait(run.number)
    assert [node is run.node for node, _, _ in seen] == [True] * 5 and not any(done for _, _, done in seen)
    for (_, shown, _), mask in zip(seen, run.masks, strict=True):
        np.testing.assert_array_equal(shown, mask)
    assert run.node.GetSegmentation().ContainsRepresentation("Closed surface")
    assert run.steps == [] and len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_without_a_surface_there_is_none(logic, volume, tiny_model):
    run = logic.segment(volume, tiny_model, surface=False)
    assert not run.node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_3d_that_was_switched_off_stays_off_until_a_surface_is_asked_for(logic, volume, tiny_model):
    segmentation = logic.segment(volume, tiny_model).node.GetSegmentation()
    segmentation.RemoveRepresentation("Closed surface")  # as the button Show 3D does
    again = logic.segment(volume, tiny_model, seed=1)
    assert again.node.GetSegmentation() is segmentation and not segmentation.ContainsRepresentation("Closed surface")
    logic.segment(volume, tiny_model, surface=True)
    assert segmentation.ContainsRepresentation("Closed surface")
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    logic.segment(volume, tiny_model, segmentation=target)
    assert target.GetSegmentation().ContainsRepresentation("Closed surface")


def test_a_cancelled_run_takes_the_node_that_it_made_away(logic, volume, tiny_model):
    before = everything()
    cancel_after(logic, 1, volume, model=tiny_model)
    assert everything() == before
    assert logic.segment(volume, tiny_model).error is None


def test_a_cancelled_run_gives_an_earlier_answer_back(logic, volume, tiny_model):
    first = logic.segment(volume, tiny_model, seed=3)
    first.node.GetSegmentation().GetSegment("Segment_1").SetName("head of it")
    first.node.GetDisplayNode().SetSegmentVisibility("Segment_2", False)
    before, shown = everything(), held(first.node, volume)
    segment = first.node.GetSegmentation().GetSegment("Segment_1")
    cancel_after(logic, 2, volume, model=tiny_model, seed=4)
    assert held(first.node, volume) == shown and shown[1]
    assert everything() == before
    assert first.node.GetSegmentation().GetSegment("Segment_1") is segment


def test_another_models_cancelled_run_gives_the_first_ones_segments_back(logic, volume, tiny_model, tmp_path):
    first = logic.segment(volume, tiny_model)
    first.node.GetDisplayNode().SetSegmentVisibility("Segment_2", False)
    before, shown = everything(), held(first.node, volume)
    other = write_model(tmp_path / "other.safetensors", labels=("kidney",))
    cancel_after(logic, 1, volume, model=other)
    assert held(first.node, volume) == shown and everything() == before


def test_an_edited_answer_comes_back_as_it_was_edited(logic, volume, tiny_model):
    first = logic.segment(volume, tiny_model)
    drawn = np.zeros(first.mask.shape, np.uint8)
    drawn[3:9, 3:9, 3:9] = 1
    first.node.GetSegmentation().AddEmptySegment("mine", "mine", (1, 0, 0))
    for name in ("mine", "Segment_1"):
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, first.node, name, volume)
    shown = held(first.node, volume)
    cancel_after(logic, 1, volume, model=tiny_model)
    assert held(first.node, volume) == shown


def test_a_users_own_segment_keeps_its_voxels_through_a_run(logic, volume, tiny_model):
    first = logic.segment(volume, tiny_model)
    drawn = np.zeros(first.mask.shape, np.uint8)
    drawn[3:9, 3:9, 3:9] = 1
    first.node.GetSegmentation().AddEmptySegment("mine", "mine", (1, 0, 0))
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, first.node, "mine", volume)
    again = logic.segment(volume, tiny_model, seed=7)
    assert again.node is first.node
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(again.node, "mine", volume), drawn)
    np.testing.assert_array_equal(nodes.read_labels(again.node, volume, again.labels), again.mask)


def test_a_segmentation_of_the_users_takes_the_answer_and_gets_its_own_back_when_cancelled(logic, volume, tiny_model):
    transform = add_transform(np.diag([1.0, 1.0, 1.0, 1.0]))
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "target")
    target.CreateDefaultDisplayNodes()
    target.SetAndObserveTransformNodeID(transform.GetID())
    target.GetSegmentation().AddEmptySegment("mine", "mine", (1, 0, 0))
    before = everything()
    cancel_after(logic, 1, volume, model=tiny_model, segmentation=target)
    assert everything() == before and list(target.GetSegmentation().GetSegmentIDs()) == ["mine"]
    run = logic.segment(volume, tiny_model, segmentation=target)
    assert run.node is target and list(target.GetSegmentation().GetSegmentIDs()) == ["mine", "Segment_1", "Segment_2"]


def test_a_volume_that_is_removed_meanwhile_ends_the_run(logic, volume, tiny_model):
    def listen(event):
        if event["event"] == "step" and event["step"] == 2:
            slicer.mrmlScene.RemoveNode(volume)

    run = logic.segment(volume, tiny_model, steps=400, onEvent=listen, wait=False)
    logic.client.wait(run.number)
    assert "volume was removed" in str(run.error) and len(run.masks) < 10
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_segmentation_that_is_removed_meanwhile_ends_the_run(logic, volume, tiny_model):
    def listen(event):
        if event["event"] == "step" and event["step"] == 2:
            nodes.remove(run.node)

    run = logic.segment(volume, tiny_model, steps=400, onEvent=listen, wait=False)
    logic.client.wait(run.number)
    assert "segmentation was removed" in str(run.error) and run.node is None


def test_what_a_callers_function_raises_is_printed_and_the_run_goes_on(logic, volume, tiny_model, capsys):
    def broken(_):
        raise ValueError("mine to fix")

    run = logic.segment(volume, tiny_model, onEvent=broken, onFinished=broken)
    assert run.error is None and len(run.masks) == 5 and "mine to fix" in capsys.readouterr().err


def test_several_samples_show_the_first_early_and_the_mean_at_the_end(logic, volume, tiny_model):
    heard = []
    run = logic.segment(volume, tiny_model, samples=3, uncertainty=True, steps=2, seed=5, onEvent=heard.append)
    assert [event["step"] for event in heard if event["event"] == "step"] == [1, 2, 1, 2]
    samples = [event["sample"] for event in heard if event["event"] == "progress"]
    first_step = next(n for n, event in enumerate(heard) if event["event"] == "step")
    assert samples == sorted(samples) and samples[-1] == 3 and all(e.get("sample", 1) == 1 for e in heard[:first_step])
    own = Volume(nodes.volume_array(volume)[None], nodes.ijk_to_lps(volume))
    options = SegmentOptions(steps=2, samples=3, seed=5, keep_steps=True, uncertainty=True)
    wanted = answer_of(tiny_model, own, options)
    assert len(run.masks) == 2
    for mask, right in zip(
        [*run.masks, run.mask, run.uncertainty], [*wanted.steps, wanted.mask, wanted.uncertainty], strict=True
    ):
        np.testing.assert_array_equal(mask, right)


def test_a_model_is_loaded_in_advance_without_making_anyone_wait(logic, volume, tiny_model):
    told = []
    logic.prepare(tiny_model, onFinished=told.append)
    assert not logic.client.busy and told == []
    assert logic.segment(volume, tiny_model).error is None  # in order, behind it
    assert told == [""]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files where the system lists them")
def test_many_jobs_leave_no_node_no_open_file_and_no_folder(logic, volume, tiny_model, tmp_path, monkeypatch):
    put_temporary(monkeypatch, tmp_path)

    def held_now():
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), logic.client.pid)]
        return files, slicer.mrmlScene.GetNumberOfNodes(), os.listdir(tmp_path)

    logic.segment(volume, tiny_model, keepSteps=True, uncertainty=True, samples=2)
    files, *before = held_now()
    for number in range(6):
        run = logic.segment(volume, tiny_model, keepSteps=True, uncertainty=True, samples=2, wait=False)
        if number % 2:
            logic.cancel(run)
        logic.client.wait(run.number)
    files_after, *after = held_now()
    assert after == before and all(now <= then for now, then in zip(files_after, files, strict=True))


def test_another_place_or_model_gets_a_result_of_its_own_and_the_former_one_stays(logic, volume, tiny_model, tmp_path):
    left, right = ((0, 18), (0, 22), (0, 9)), ((0, 18), (0, 22), (11, 20))
    first = logic.segment(volume, tiny_model, roi=left)
    voxels = held(first.node, volume)
    second = logic.segment(volume, tiny_model, roi=right)
    assert second.node is not first.node and second.node.GetName() == "scan DiffSeg 2"
    assert held(first.node, volume) == voxels
    volume.SetName("renamed")
    moved = logic.segment(volume, tiny_model, roi=((0, 18), (0, 22), (1, 10)))
    assert moved.node is first.node, "a region that is moved a little is the same place, whatever the volume is called"
    other = logic.segment(volume, write_model(tmp_path / "other.safetensors"), roi=left)
    assert other.node.GetName() == "renamed DiffSeg 3"
    whole = logic.segment(volume, tiny_model)
    assert whole.node.GetName() == "renamed DiffSeg 4" and logic.segment(volume, tiny_model).node is whole.node


def test_a_run_ends_when_its_volume_is_removed(logic, volume, tiny_model):
    run = logic.segment(volume, tiny_model, steps=1000, wait=False)
    while not run.masks:
        logic.client.pump(0.05)
    slicer.mrmlScene.RemoveNode(volume)
    logic.client.wait(run.number)
    assert "The volume was removed" in str(run.error) and len(run.masks) < 1000


def test_cancelling_a_job_that_waits_ends_it_at_once_and_leaves_the_running_one_alone(logic, volume, tiny_model):
    running = logic.segment(volume, tiny_model, steps=250, wait=False)
    waiting = logic.segment(add_volume(blob_case(1)[0], name="other"), tiny_model, wait=False)
    while not running.masks:
        logic.client.pump(0.05)
    logic.cancel(waiting)
    assert waiting.finished and isinstance(waiting.error, Cancelled) and not running.finished
    logic.client.wait(running.number)
    assert running.error is None and len(running.masks) == 250
