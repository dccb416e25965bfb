"""The masks of the steps in the scene, on real MRML: scrubbed in place, kept, as a sequence, measured, charted."""

import json
import types

import numpy as np
import pytest

from conftest import blob_case, write_image

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.labels import Label
from DiffSegLib.scene import changes, edits, hierarchy, nodes, plots, steps, uncertainty
from DiffSegLib.scene.host import SceneHost, inside_slicer
from DiffSegLib.scene.logic import Segmentation, SegmentLogic
from DiffSegLib.scene.process import WorkerClient
from DiffSegLib.scene.transport import PipeTransport

CODES = {"category": ("SCT", "123037004", "Anatomical Structure"), "type": ("SCT", "5366008", "Hippocampus")}
LABELS = (Label(1, "first", (0.9, 0.6, 0.3), **CODES), Label(2, "second", (0.2, 0.3, 0.9)))
MASK = blob_case(0)[1]
SCALED = np.diag([0.8, 0.9, 2.0, 1.0])


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def volume(host, tmp_path):
    host.scene.Clear(0)
    return host.load_volume(write_image(tmp_path / "scan.nrrd", blob_case(0)[0], SCALED), "scan")


def make_run(volume, masks, name="scan DiffSeg", **more):
    """A finished run as the logic leaves it."""
    run = Segmentation("segment-1", volume, labels=LABELS, masks=masks, mask=masks[-1], finished=True)
    run.checksums = [edits.checksum(mask) for mask in masks]
    run.stepCount, run.provenance = len(masks), {"engine": "DiffSeg", "seed": 7, "steps": len(masks)}
    run.node = nodes.make_segmentation(volume, name, name, LABELS)
    nodes.write_labels(run.node, masks[-1], volume, LABELS)
    steps.finish(run)
    for key, value in more.items():
        setattr(run, key, value)
    return run


@pytest.fixture
def run(volume):
    return make_run(volume, [np.roll(MASK, n, axis=1) for n in (2, 1, 0)])


def held(run, node=None):
    return edits.current_labels(node or run.node, run.volume, run.labels)


def count():
    return slicer.mrmlScene.GetNumberOfNodes()


def shared_labels(node):
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    scalars = image.GetPointData().GetScalars()
    return image, vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def edit(node):
    """What a brush does: voxels of the shared label map change."""
    image, view = shared_labels(node)
    view[1:4, 1:4, 1:4] = 1
    image.Modified()


# ---- one at a time


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


# ---- what the user edited


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


# ---- all of them


def test_kept_steps_are_hidden_nodes_with_names_colors_codes_and_provenance(run):
    made = steps.keep(run)
    assert run.steps == made and [node.GetName() for node in made] == [f"scan DiffSeg step {n}" for n in (1, 2, 3)]
    for number, node in enumerate(made, start=1):
        np.testing.assert_array_equal(held(run, node), run.masks[number - 1])
        assert not node.GetDisplayNode().GetVisibility()
        first = node.GetSegmentation().GetSegment("Segment_1")
        assert first.GetName() == "first" and first.GetColor() == pytest.approx(LABELS[0].color, abs=1e-3)
        assert "SCT^5366008^Hippocampus" in first.GetTerminology()
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is run.volume
        assert node.GetAttribute("DiffSeg.Step") == str(number) and node.GetAttribute("DiffSeg.Seed") == "7"
        assert json.loads(node.GetAttribute("DiffSeg.Json"))["step"] == number


def test_keeping_again_updates_the_same_nodes_and_leaves_what_the_user_set(run):
    made = steps.keep(run)
    made[0].GetDisplayNode().SetVisibility(True)
    made[0].GetSegmentation().GetSegment("Segment_1").SetColor(0.0, 1.0, 0.0)
    before = count()
    again = make_run(run.volume, [np.roll(MASK, n, axis=0) for n in (2, 1, 0)])
    assert steps.keep(again) == made and count() == before and again.node is run.node
    np.testing.assert_array_equal(held(again, made[0]), again.masks[0])
    assert made[0].GetDisplayNode().GetVisibility()
    assert made[0].GetSegmentation().GetSegment("Segment_1").GetColor() == pytest.approx((0.0, 1.0, 0.0))


def test_nodes_of_steps_that_a_shorter_run_lacks_go_but_not_the_edited_one(run):
    run.masks.insert(0, np.roll(MASK, 3, axis=1))
    made = steps.keep(run)
    edit(made[1])
    made[3].GetSegmentation().AddEmptySegment("", "lesion")
    edited = held(run, made[1]).copy()
    before = count()
    short = make_run(run.volume, [MASK])
    assert steps.keep(short) == [made[0]]
    assert made[1].GetScene() is not None and made[1].GetName() == "scan DiffSeg step 2 edited"
    np.testing.assert_array_equal(held(run, made[1]), edited)
    assert made[3].GetScene() is not None and made[3].GetName() == "scan DiffSeg step 4 edited"
    assert made[2].GetScene() is None and count() < before
    displays = slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode")
    assert len(displays) == len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))


def test_an_edited_step_is_left_alone_and_a_new_node_made(run):
    made = steps.keep(run)
    edit(made[0])
    again = steps.keep(run)
    assert again[0] is not made[0] and again[1:] == made[1:]
    assert made[0].GetName() == "scan DiffSeg step 1 edited" and again[0].GetName().startswith("scan DiffSeg step 1")
    np.testing.assert_array_equal(held(run, again[0]), run.masks[0])


def test_kept_steps_have_a_surface_where_the_answer_has_one(run):
    assert not steps.keep(run)[0].GetSegmentation().ContainsRepresentation("Closed surface")
    run.node.CreateClosedSurfaceRepresentation()
    assert all(node.GetSegmentation().ContainsRepresentation("Closed surface") for node in steps.keep(run))


def test_the_steps_lie_in_a_collapsed_folder_under_the_patients_study(run):
    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    patient = tree.CreateSubjectItem(tree.GetSceneItemID(), "Patient")
    study = tree.CreateStudyItem(patient, "Study")
    own = tree.GetItemByDataNode(run.volume) or tree.CreateItem(study, run.volume)
    tree.SetItemParent(own, study)
    if not inside_slicer():  # there every node has an item by itself
        add = slicer.mrmlScene.AddObserver(
            slicer.mrmlScene.NodeAddedEvent, vtk.calldata_type(vtk.VTK_OBJECT)(lambda *a: give_item(tree, a[-1]))
        )
    try:
        made = steps.keep(run)
        folder = tree.GetItemParent(tree.GetItemByDataNode(made[0]))
        assert tree.GetItemName(folder) == "scan DiffSeg steps" and tree.GetItemParent(folder) == study
        assert not tree.GetItemExpanded(folder)
        assert all(tree.GetItemParent(tree.GetItemByDataNode(node)) == folder for node in made)
        tree.SetItemParent(tree.GetItemByDataNode(made[0]), patient)  # by the user
        tree.SetItemParent(folder, patient)
        slicer.mrmlScene.RemoveNode(made[2])
        again = steps.keep(run)
        assert tree.GetItemParent(tree.GetItemByDataNode(made[0])) == patient
        assert tree.GetItemParent(tree.GetItemByDataNode(again[2])) == folder
        sequence = steps.keep_as_sequence(run)
        browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)
        assert tree.GetItemParent(tree.GetItemByDataNode(browser.GetProxyNode(sequence))) == study
        run.uncertainty = np.zeros(MASK.shape, np.float32)
        assert tree.GetItemParent(tree.GetItemByDataNode(uncertainty.show(run))) == study
    finally:
        if not inside_slicer():
            slicer.mrmlScene.RemoveObserver(add)


def give_item(tree, node):
    if node.IsA("vtkMRMLSegmentationNode") or node.IsA("vtkMRMLScalarVolumeNode"):
        tree.CreateItem(tree.GetSceneItemID(), node)


def test_without_items_in_the_hierarchy_nothing_is_placed(run):
    if inside_slicer():
        pytest.skip("in Slicer every node has an item")
    steps.keep(run)
    assert hierarchy.find_folder(f"{run.volume.GetID()}|{steps.key_of(run)}") == 0


# ---- as a sequence


def browser_of(sequence):
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)


def test_the_sequence_holds_every_step_and_its_browser_starts_at_the_first(run):
    run.node.GetSegmentation().GetSegment("Segment_1").SetName("mine")
    sequence = steps.keep_as_sequence(run)
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("step", "")
    assert [sequence.GetNthIndexValue(n) for n in range(sequence.GetNumberOfDataNodes())] == ["1", "2", "3"]
    browser = browser_of(sequence)
    assert browser.GetSelectedItemNumber() == 0
    proxy = browser.GetProxyNode(sequence)
    assert not proxy.GetDisplayNode().GetVisibility() and proxy is not run.node
    assert proxy.GetNodeReference(proxy.GetReferenceImageGeometryReferenceRole()) is run.volume
    for number in (2, 0, 1):
        browser.SetSelectedItemNumber(number)
        assert browser.GetProxyNode(sequence) is proxy
        np.testing.assert_array_equal(held(run, proxy), run.masks[number])
        segment = proxy.GetSegmentation().GetSegment("Segment_1")
        assert segment.GetName() == "mine" and "SCT^5366008^Hippocampus" in segment.GetTerminology()
        assert proxy.GetAttribute("DiffSeg.Step") == str(number + 1)


def test_a_sequence_made_again_is_the_same_and_leaves_nothing_behind(run):
    sequence = steps.keep_as_sequence(run)
    proxy, before = browser_of(sequence).GetProxyNode(sequence), count()
    proxy.GetDisplayNode().SetVisibility(True)
    short = make_run(run.volume, [np.roll(MASK, 3, axis=0), MASK])
    assert steps.keep_as_sequence(short) is sequence and count() == before
    assert sequence.GetNumberOfDataNodes() == 2 and browser_of(sequence).GetProxyNode(sequence) is proxy
    np.testing.assert_array_equal(held(short, proxy), short.masks[0])
    assert proxy.GetDisplayNode().GetVisibility()


def test_steps_and_sequence_come_back_from_a_bundle(run, host, tmp_path):
    steps.keep(run)
    steps.keep_as_sequence(run)
    masks = run.masks
    host.save_bundle(tmp_path / "scene.mrb")
    host.scene.Clear(0)
    host.read_bundle(tmp_path / "scene.mrb")
    again = make_run(slicer.util.getNode("scan"), masks)
    before = count()
    made = steps.keep(again)
    assert [node.GetName() for node in made] == [f"scan DiffSeg step {n}" for n in (1, 2, 3)] and count() == before
    assert steps.keep_as_sequence(again).GetNumberOfDataNodes() == 3
    assert len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) == 1


# ---- measured and charted


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_change_is_dice_to_the_step_before_and_volumes_are_in_ml(run):
    found = changes.changes(run)
    assert found[0].dice == {} and found[0].meanDice is None
    for number in (1, 2):
        before, now = run.masks[number - 1 : number + 1]
        wanted = {value: dice(now == value, before == value) for value in (1, 2)}
        assert found[number].dice == pytest.approx(wanted)
        assert found[number].meanDice == pytest.approx(np.mean(list(wanted.values())))
    sizes = changes.volumes_ml(run, found[2])
    assert sizes == pytest.approx({v: (run.masks[2] == v).sum() * 0.8 * 0.9 * 2.0 / 1000 for v in (1, 2)})


def test_structures_that_neither_step_has_do_not_count_as_a_change():
    only = np.where(MASK == 1, MASK, 0)
    empty = np.zeros_like(MASK)
    assert changes.compare(only, only).dice == {1: 1.0}
    assert changes.compare(only, empty).dice == {1: 0.0}
    assert changes.compare(empty, empty).meanDice is None and changes.compare(empty, only).counts.sum() == 0
    assert changes.compare(MASK, only).dice == {1: 1.0, 2: 0.0}


def column(table, name):
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(n) for n in range(values.GetNumberOfTuples())]


def test_the_charts_show_dice_and_volume_of_each_structure_in_its_color(run):
    run.node.GetSegmentation().GetSegment("Segment_2").SetColor(0.0, 1.0, 0.0)
    charts = plots.update(run)
    for kind, chart in charts.items():
        series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
        assert [each.GetName() for each in series] == ["first", "second"]
        assert series[0].GetColor() == pytest.approx(LABELS[0].color, abs=1e-3)
        assert series[1].GetColor() == pytest.approx((0.0, 1.0, 0.0))
        table = series[0].GetTableNode()
        assert column(table, series[0].GetXColumnName()) == [1, 2, 3]
        values = column(table, series[1].GetYColumnName())
        if kind == plots.DICE:
            assert np.isnan(values[0])
            assert values[1:] == pytest.approx([c.dice[2] for c in changes.changes(run)[1:]])
        else:
            assert values == pytest.approx([changes.volumes_ml(run, c)[2] for c in changes.changes(run)])


def test_the_charts_are_updated_in_place_also_for_another_model_and_after_a_scene_was_closed(run, host):
    charts = plots.update(run)
    before = count()
    longer = make_run(run.volume, [np.roll(MASK, n, axis=0) for n in range(5)])
    assert plots.update(longer) == charts and count() == before
    table = charts[plots.DICE].GetNthPlotSeriesNode(0).GetTableNode()
    assert table.GetTable().GetNumberOfRows() == 5
    other = types.SimpleNamespace(**{**vars(longer), "labels": (Label(4, "third"),), "node": None, "changes": []})
    assert plots.update(other) == charts
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 2
    assert charts[plots.VOLUME].GetNthPlotSeriesNode(0).GetName() == "third"
    host.scene.Clear(0)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "next")
    slicer.util.updateVolumeFromArray(volume, blob_case(1)[0])
    fresh = plots.update(make_run(volume, [MASK, MASK]))
    assert all(chart.GetScene() is host.scene for chart in fresh.values())
    assert table.GetTable().GetNumberOfRows() == 5


def test_the_view_of_the_charts_is_one_that_neither_the_layout_nor_another_chart_takes(volume):
    owner = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    view = plots.view_node(owner)
    assert view.GetParentLayoutNode() is owner and not view.GetDoPropagatePlotChartSelection()
    slicer.mrmlScene.Clear(0)
    assert plots.view_node(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")) is view


# ---- uncertainty


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
    unsure.uncertainty = None
    assert uncertainty.show(unsure) is None


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


# ---- through the logic


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
