"""The uncertainty of a run as a volume, and over the slice views."""

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util

import finished_run
from DiffSegLib.scene import nodes, uncertainty
from DiffSegLib.scene.host import inside_slicer
from finished_run import MASK, count, make_run

host, volume, run = finished_run.host, finished_run.volume, finished_run.run  # fixtures


@pytest.fixture
def unsure(run):
    run.uncertainty = np.random.default_rng(0).uniform(0, 1, MASK.shape).astype(np.float32)
    return run


def test_the_uncertainty_is_a_volume_on_the_volumes_grid_with_a_fixed_window(unsure):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    unsure.volume.SetAndObserveTransformNodeID(transform.GetID())
    node = uncertainty.show(unsure)
    assert node.GetName() == "scan DiffSeg uncertainty" and node.GetTransformNodeID() == transform.GetID()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), unsure.uncertainty)
    np.testing.assert_allclose(nodes.ijk_to_lps(node), nodes.ijk_to_lps(unsure.volume), atol=1e-6)
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0) and not display.GetAutoWindowLevel()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() > 0 and display.GetInterpolate()
    assert display.GetColorNodeID() in uncertainty.COLORS and node.GetAttribute("DiffSeg.Seed") == "7"


def test_the_first_color_table_is_taken_where_slicer_has_it(unsure):
    inferno = slicer.mrmlScene.GetNodeByID(uncertainty.COLORS[0])
    if inferno is None:
        inferno = slicer.vtkMRMLColorTableNode()
        inferno.SetTypeToUser()
        inferno.SetScene(slicer.mrmlScene)
        inferno.SetSingletonTag("FileInferno.txt")  # makes the id
        inferno = slicer.mrmlScene.AddNode(inferno)
    assert inferno.GetID() == uncertainty.COLORS[0]
    assert uncertainty.show(unsure).GetDisplayNode().GetColorNodeID() == uncertainty.COLORS[0]
    if not inside_slicer():
        slicer.mrmlScene.RemoveNode(inferno)


def test_a_later_uncertainty_is_written_into_the_same_node_as_the_user_has_it(unsure):
    node = uncertainty.show(unsure)
    node.GetDisplayNode().SetWindowLevelMinMax(0.2, 0.4)
    before = count()
    unsure.uncertainty = 1 - unsure.uncertainty
    assert uncertainty.show(unsure) is node and count() == before and uncertainty.find(unsure) is node
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), unsure.uncertainty)
    assert node.GetDisplayNode().GetWindowLevelMin() == pytest.approx(0.2)
    assert unsure.warnings == []


def later(unsure):
    """A run with one sample, whose answer takes the place of the one before."""
    again = make_run(unsure.volume, [np.roll(MASK, 1, axis=0), MASK])
    assert again.node is unsure.node
    return again


def test_with_an_answer_of_one_sample_the_uncertainty_of_the_one_before_goes_and_is_told(unsure):
    before = count()
    node, again = uncertainty.show(unsure), later(unsure)
    assert uncertainty.show(again) is None
    assert node.GetScene() is None and count() == before, "with what belonged to it"
    assert again.warnings == ["scan DiffSeg uncertainty, of the answer before, was removed."]
    assert uncertainty.show(later(unsure)) is None and count() == before


def test_an_uncertainty_that_the_user_changed_is_kept_and_told(unsure):
    node, again = uncertainty.show(unsure), later(unsure)
    slicer.util.arrayFromVolume(node)[:2] = 0.5
    changed = slicer.util.arrayFromVolume(node).copy()
    assert uncertainty.show(again) is None and uncertainty.find(again) is None
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), changed)
    assert node.GetName() == "scan DiffSeg uncertainty edited"
    assert again.warnings == ["scan DiffSeg uncertainty edited, of the answer before, is kept."]
    other = uncertainty.show(unsure)
    assert other is not node and other.GetName().startswith("scan DiffSeg uncertainty")
    slicer.util.arrayFromVolume(other)[:2] = 0.5
    assert uncertainty.show(unsure) not in (node, other) and other.GetScene() is not None, "nor is it written over"


def test_an_uncertainty_with_a_name_of_the_users_is_kept_under_it(unsure):
    node, again = uncertainty.show(unsure), later(unsure)
    node.SetName("mine")
    assert uncertainty.show(unsure) is node, "a new one is still written into it"
    assert uncertainty.show(again) is None and node.GetScene() is not None and node.GetName() == "mine"
    assert again.warnings == ["mine, of the answer before, is kept."]


def test_an_uncertainty_that_a_segmentation_was_drawn_on_is_kept_and_told(unsure):
    node, again = uncertainty.show(unsure), later(unsure)
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    own.SetReferenceImageGeometryParameterFromVolumeNode(node)
    assert uncertainty.show(again) is None and uncertainty.find(again) is None
    assert own.GetNodeReference(own.GetReferenceImageGeometryReferenceRole()) is node
    assert again.warnings == ["scan DiffSeg uncertainty, of the answer before, is kept."]


@pytest.fixture
def views(volume):
    made = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")  # in Slicer's window there are three
    if len(made) > 1:
        return made
    made = []
    for name in ("Red", "Green"):
        node = slicer.vtkMRMLSliceCompositeNode()
        node.SetLayoutName(name)
        made.append(slicer.mrmlScene.AddNode(node))
    return made


def test_the_overlay_gives_back_each_views_own_foreground(unsure, views):
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "other")
    views[0].SetForegroundVolumeID(other.GetID())
    views[0].SetForegroundOpacity(0.3)
    node = uncertainty.show(unsure)
    for _ in range(2):  # twice is once
        uncertainty.overlay(node)
    assert all(view.GetForegroundVolumeID() == node.GetID() for view in views)
    assert all(0 < view.GetForegroundOpacity() < 1 for view in views)
    uncertainty.overlay(None)
    assert views[0].GetForegroundVolumeID() == other.GetID() and views[0].GetForegroundOpacity() == 0.3
    assert views[1].GetForegroundVolumeID() is None and views[1].GetForegroundOpacity() == 0.0


def test_the_overlay_leaves_a_foreground_that_the_user_chose_meanwhile(unsure, views):
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "other")
    node = uncertainty.show(unsure)
    uncertainty.overlay(node)
    views[0].SetForegroundVolumeID(other.GetID())
    slicer.mrmlScene.RemoveNode(node)
    uncertainty.overlay(None)
    assert views[0].GetForegroundVolumeID() == other.GetID()
    assert views[1].GetForegroundVolumeID() is None and views[1].GetForegroundOpacity() == 0.0
