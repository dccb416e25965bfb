"""Where a run's answer lies: under transforms, in a region, of channels on other grids."""

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

import scene_run
from DiffSegLib.data.channels import on_first_grid
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.scene import nodes
from scene_run import OBLIQUE, add_volume, cancel_after, everything
from test_roi import add_bend, add_roi, add_transform, affine
from tiny_models import answer_of

host, scene, client = scene_run.host, scene_run.scene, scene_run.client  # fixtures
logic, volume, two_channels = scene_run.logic, scene_run.volume, scene_run.two_channels
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
