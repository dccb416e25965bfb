"""A run on real MRML: its mask is there from the first step on, and it leaves no trace if it comes to nothing."""

import dataclasses
import errno
import os
import sys

import numpy as np
import pytest

import without_torch
from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

from DiffSegLib.data.channels import on_first_grid
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.scene import logic as logic_module
from DiffSegLib.scene import nodes
from DiffSegLib.scene.host import SceneHost
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import WorkerClient, worker_environment
from DiffSegLib.scene.transport import PipeTransport
from host.application import put_temporary
from tally import tried
from test_expectations import add_sequence
from test_roi import add_bend, add_roi, add_transform, affine
from tiny_models import FLAT, answer_of, write_model

OBLIQUE = affine([20, -10, 35], (0.9, 1.1, 2.0), (12, -30, 55))  # IJK to RAS
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def scene(host, monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", host.scene)
    monkeypatch.setattr(slicer, "modules", slicer.modules)
    host.scene.Clear(0)
    return host.scene


@pytest.fixture(scope="module")
def client():
    made = WorkerClient(transport=PipeTransport)
    yield made
    made.shutdown()


@pytest.fixture
def logic(client):
    return SegmentLogic(client)


@pytest.fixture
def volume(scene):
    return add_volume(blob_case(0)[0])


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "two.safetensors", channels=("T1", "FLAIR"))


@pytest.fixture(scope="module")
def flat_model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "flat.safetensors", settings=FLAT)


def add_volume(array, matrix=OBLIQUE, name="scan"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    made = vtk.vtkMatrix4x4()
    made.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    node.SetIJKToRASMatrix(made)
    node.CreateDefaultDisplayNodes()
    return node


def everything():
    """What the scene holds: every node with its name, attributes and transform."""
    found = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    others = ("vtkMRMLSubjectHierarchyNode", "vtkMRMLLabelMapVolumeDisplayNode")  # the latter: from reading masks here
    found = [node for node in found if node.GetClassName() not in others]
    return {
        node.GetID(): (
            node.GetName(),
            {name: node.GetAttribute(name) for name in node.GetAttributeNames()},
            node.GetTransformNodeID() if hasattr(node, "GetTransformNodeID") else None,
        )
        for node in found
    }


def held(node, volume):
    """What a segmentation shows: by segment its name, colour, visibility and voxels; and whether there is a surface."""
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    segments = [
        (
            name,
            segmentation.GetSegment(name).GetName(),
            segmentation.GetSegment(name).GetColor(),
            display.GetSegmentVisibility(name),
            slicer.util.arrayFromSegmentBinaryLabelmap(node, name, volume).tobytes(),
        )
        for name in segmentation.GetSegmentIDs()
    ]
    surfaces = [
        segmentation.GetSegment(name).GetRepresentation("Closed surface").GetNumberOfPoints()
        for name in (segmentation.GetSegmentIDs() if segmentation.ContainsRepresentation("Closed surface") else ())
    ]
    return segments, surfaces


def cancel_after(logic, step, *arguments, **options):
    """Run until a step was shown, then cancel; returns the run and what the node held at that step."""
    seen = []

    def listen(event):
        if event["event"] == "step" and event["step"] == step:
            seen.append(nodes.read_labels(run.node, run.volume, run.labels))
            logic.cancel(run)

    run = logic.segment(*arguments, steps=400, onEvent=listen, wait=False, **options)
    logic.client.wait(run.number)
    assert isinstance(run.error, Cancelled) and run.node is None and run.finished
    np.testing.assert_array_equal(seen[0], run.masks[step - 1])
    return run


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


def test_a_volume_under_a_transform_gets_its_answer_under_the_same(logic, volume, tiny_model):
    plain = logic.segment(volume, tiny_model, name="plain").mask
    for transform in (add_transform(affine([10, 20, 30], (1, 1, 1), (5, 6, 7))), add_bend((3.0, 4.0, 5.0))):
        volume.SetAndObserveTransformNodeID(transform.GetID())
        run = logic.segment(volume, tiny_model, name=f"under {transform.GetName()}")
        np.testing.assert_array_equal(run.mask, plain)
        np.testing.assert_array_equal(nodes.read_labels(run.node, volume, run.labels), plain)
        assert run.node.GetTransformNodeID() == transform.GetID()


def test_an_answer_follows_its_volume_under_a_transform_at_the_next_run(logic, volume, tiny_model):
    first = logic.segment(volume, tiny_model)
    volume.SetAndObserveTransformNodeID(add_transform(affine([10, 20, 30], (1, 1, 1), (5, 6, 7))).GetID())
    cancel_after(logic, 1, volume, model=tiny_model)
    assert first.node.GetTransformNodeID() is None
    again = logic.segment(volume, tiny_model)
    assert again.node is first.node and again.node.GetTransformNodeID() == volume.GetTransformNodeID()


# Regions


def test_a_region_gives_the_mask_of_its_box_and_nothing_outside(logic, volume, tiny_model):
    box = ((2, 16), (3, 19), (1, 17))
    by_box = logic.segment(volume, tiny_model, roi=box)
    by_node = logic.segment(volume, tiny_model, roi=add_roi(box, OBLIQUE))
    assert by_node.provenance["roi"] == [list(pair) for pair in box]
    np.testing.assert_array_equal(by_node.mask, by_box.mask)
    inside = np.zeros(by_box.mask.shape, bool)
    inside[tuple(slice(*pair) for pair in box)] = True
    assert by_box.mask.any() and not by_box.mask[~inside].any()


def test_a_region_outside_leaves_the_scene(logic, volume, tiny_model):
    region = add_roi(((90, 99), (3, 19), (1, 17)), OBLIQUE)
    before = everything()
    with pytest.raises(InputError, match="R lies outside of scan"):
        logic.segment(volume, tiny_model, roi=region)
    assert everything() == before and not logic.client.busy


# Channels


def second_channel(matrix=OBLIQUE, shape=(18, 22, 20)):
    return add_volume(blob_case(1, shape)[0], matrix, "flair")


def python_mask(model, first, others):
    """The mask that the engine gives in this process; others: (node, its IJK to RAS in the first one's space)."""
    volumes = [Volume(nodes.volume_array(first)[None].astype(np.float32), nodes.ijk_to_lps(first), "scan")]
    volumes += [Volume(nodes.volume_array(n)[None].astype(np.float32), TO_LPS @ m, "flair") for n, m in others]
    return answer_of(model, on_first_grid(volumes), SegmentOptions()).mask


def test_a_channel_on_the_same_grid(logic, volume, two_channels):
    flair = second_channel()
    run = logic.segment(volume, two_channels, channels=[flair])
    np.testing.assert_array_equal(run.mask, python_mask(two_channels, volume, [(flair, OBLIQUE)]))


def test_a_channel_on_another_grid_is_resampled_in_space(logic, volume, two_channels):
    grid = OBLIQUE @ affine([0, 0, 20], (0.7, 0.8, 0.6), (2, 1, 3))
    flair = second_channel(grid, (30, 26, 28))
    run = logic.segment(volume, two_channels, channels=[flair])
    wanted = python_mask(two_channels, volume, [(flair, grid)])
    np.testing.assert_array_equal(run.mask, wanted)
    assert (wanted != python_mask(two_channels, volume, [(second_channel(), OBLIQUE)])).any()


def test_transforms_between_the_channels_are_taken_into_account(logic, volume, two_channels):
    move, turn = affine([0, 0, 0], (1, 1, 1), (4, -3, 2)), affine([5, 10, 15], (1, 1, 1), (1, 2, 3))
    flair = second_channel()
    volume.SetAndObserveTransformNodeID(add_transform(turn).GetID())
    flair.SetAndObserveTransformNodeID(add_transform(move).GetID())
    run = logic.segment(volume, two_channels, channels=[flair])
    wanted = python_mask(two_channels, volume, [(flair, np.linalg.inv(turn) @ move @ OBLIQUE)])
    np.testing.assert_array_equal(run.mask, wanted)
    assert (wanted != python_mask(two_channels, volume, [(flair, OBLIQUE)])).any()


def test_channels_under_the_same_bent_transform_lie_as_without_it(logic, volume, two_channels):
    flair, bend = second_channel(), add_bend((3.0, 4.0, 5.0))
    for node in (volume, flair):
        node.SetAndObserveTransformNodeID(bend.GetID())
    run = logic.segment(volume, two_channels, channels=[flair])
    np.testing.assert_array_equal(run.mask, python_mask(two_channels, volume, [(flair, OBLIQUE)]))


def test_channels_that_the_model_cannot_take_are_told_and_the_scene_is_left(logic, volume, two_channels, tiny_model):
    flair, bend = second_channel(), add_bend((3.0, 4.0, 5.0))
    bend.SetName("warp")
    bent = second_channel()
    bent.SetAndObserveTransformNodeID(bend.GetID())
    far = second_channel(affine([0, 0, 0], (1, 1, 1), (9000, 0, 0)))
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    before = everything()
    for model, channels, words in (
        (two_channels, [], "needs another volume: choose one for FLAIR"),
        (two_channels, [None], "needs another volume: choose one for FLAIR"),
        (tiny_model, [flair], "takes 1 channel.s., 2 were given"),
        (two_channels, [bent], "flair and scan are not under the same transform, and warp is not linear"),
        (two_channels, [empty], "nothing holds no voxels"),
        (two_channels, [far], "flair: lies nowhere on the grid of scan"),
    ):
        with pytest.raises(InputError, match=words):
            logic.segment(volume, model, channels=channels)
    assert everything() == before


# Single slices, frames, broken voxels, broken machines


def test_a_model_of_single_slices_takes_one(logic, scene, flat_model):
    slice_ = add_volume(blob_case(0)[0][9:10], name="slice")
    run = logic.segment(slice_, flat_model)
    assert run.mask.shape == (1, 22, 20) and run.node.GetSegmentation().GetNumberOfSegments() == 2
    np.testing.assert_array_equal(nodes.read_labels(run.node, slice_, run.labels), run.mask)


def test_single_slices_and_volumes_are_not_mixed_up(logic, volume, flat_model, tiny_model):
    slice_ = add_volume(blob_case(0)[0][9:10], name="slice")
    before = everything()
    with pytest.raises(InputError, match=r"scan has 18 slices; this model takes a single one"):
        logic.segment(volume, flat_model)
    with pytest.raises(InputError, match=r"slice is a single slice; this model needs a 3D volume"):
        logic.segment(slice_, tiny_model)
    thin = ((9, 10), (0, 22), (0, 20))
    with pytest.raises(InputError, match=r"region of interest in scan is a single slice"):
        logic.segment(volume, tiny_model, roi=thin)
    assert everything() == before
    run = logic.segment(volume, flat_model, roi=thin)  # a slice of a volume is one
    np.testing.assert_array_equal(run.mask[9:10], logic.segment(slice_, flat_model).mask)


def test_a_frame_of_a_sequence_is_segmented_with_a_warning(logic, volume, tiny_model):
    proxy = add_sequence(volume, 4)
    run = logic.segment(proxy, tiny_model)
    assert any("shows frame 2 of 4 of a sequence" in text for text in run.warnings)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_told_with_the_volumes_name(logic, volume, two_channels, tiny_model, value):
    array = blob_case(0)[0].copy()
    array[3, 4, 5] = value
    broken = add_volume(array, name="broken")
    before = everything()
    with pytest.raises(DiffSegError, match=r"broken: holds values that are not numbers"):
        logic.segment(broken, tiny_model)
    with pytest.raises(DiffSegError, match=r"broken: holds values that are not numbers"):
        logic.segment(volume, two_channels, channels=[broken])
    assert everything() == before and logic.segment(volume, tiny_model).error is None


def test_integers_of_any_kind_give_the_mask_of_their_values(logic, scene, tiny_model):
    array = blob_case(0)[0].round()
    masks = [
        logic.segment(add_volume(array.astype(kind)), tiny_model).mask for kind in (np.float64, np.int16, np.int32)
    ]
    assert masks[0].any() and all((mask == masks[0]).all() for mask in masks)


def test_a_temporary_folder_that_is_none(logic, volume, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    put_temporary(monkeypatch, tmp_path / "file")
    before = everything()
    with pytest.raises(InputError, match=r"cannot be handed to the engine .*free some space, or choose another"):
        logic.segment(volume, tiny_model)
    assert everything() == before and not logic.client.busy


def test_a_full_disk_before_the_run(logic, volume, tiny_model, tmp_path, monkeypatch):
    def full(*_):
        tried("faults injected: memory, disk, loss")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put_temporary(monkeypatch, tmp_path)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        logic.segment(volume, tiny_model)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_during_the_run(logic, volume, tiny_model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    plain = logic_module.write_job

    def write_job(*arguments):
        job, folder = plain(*arguments)
        return dataclasses.replace(job, output=str(tmp_path / "file" / "below")), folder

    monkeypatch.setattr(logic_module, "write_job", write_job)
    before = everything()
    with pytest.raises(DiffSegError, match="cannot be written"):
        logic.segment(volume, tiny_model)
    assert everything() == before


def test_no_files_are_left_behind(logic, volume, tiny_model, tmp_path, monkeypatch):
    put_temporary(monkeypatch, tmp_path)
    logic.segment(volume, tiny_model)
    cancel_after(logic, 1, volume, model=tiny_model)
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_torch_points_to_the_section_environment(volume, tiny_model):
    bare = WorkerClient(without_torch.worker_command(), PipeTransport, worker_environment(sys.executable))
    before = everything()
    with pytest.raises(EnvironmentProblem, match=r"No module named 'torch'.*section Environment"):
        SegmentLogic(bare).segment(volume, tiny_model)
    assert everything() == before


# Loading in advance


def test_the_workers_threads_do_not_spin_unless_the_user_says_how(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    assert worker_environment(sys.executable)["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in worker_environment(sys.executable)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert worker_environment(sys.executable)["GOMP_SPINCOUNT"] == "7"


def test_a_model_is_loaded_in_advance_without_making_anyone_wait(logic, volume, tiny_model):
    told = []
    logic.prepare(tiny_model, onFinished=told.append)
    assert not logic.client.busy and told == []
    assert logic.segment(volume, tiny_model).error is None  # in order, behind it
    assert told == [""]


def test_a_model_that_cannot_be_loaded_is_told(logic, tmp_path):
    with pytest.raises(InputError, match="neither a model file"):
        logic.prepare("nowhere")
    path = write_model(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    told = []
    logic.prepare(path, onFinished=told.append)
    while not told:
        logic.client.pump(0.1)
    assert "cut.safetensors: cannot be read" in told[0]


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


def test_the_uncertainty_lies_where_the_volume_does(logic, volume, tiny_model):
    run = logic.segment(volume, tiny_model, samples=2, uncertainty=True)
    made, wanted = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    run.uncertaintyNode.GetIJKToRASMatrix(made)
    volume.GetIJKToRASMatrix(wanted)
    assert [made.GetElement(n // 4, n % 4) for n in range(16)] == pytest.approx(
        [wanted.GetElement(n // 4, n % 4) for n in range(16)]
    )
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.uncertaintyNode), run.uncertainty)


def test_the_mask_of_a_volume_that_was_moved_lies_where_the_volume_lies_now(logic, volume, tiny_model):
    first = logic.segment(volume, model=str(tiny_model))
    for change in (lambda: volume.SetOrigin(25.0, -3.0, 7.0), lambda: volume.SetSpacing(2.0, 2.0, 2.0)):
        change()
        again = logic.segment(volume, model=str(tiny_model))
        assert again.node is first.node and again.warnings == first.warnings
        image = again.node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
        assert image.GetOrigin() == pytest.approx(volume.GetOrigin())
        assert image.GetSpacing() == pytest.approx(volume.GetSpacing())
        np.testing.assert_array_equal(nodes.read_labels(again.node, volume, again.labels), again.mask)
        exported = slicer.util.arrayFromSegmentBinaryLabelmap(again.node, "Segment_1")  # on the reference geometry
        assert exported.shape == again.mask.shape
        np.testing.assert_array_equal(exported > 0, again.mask == 1)
