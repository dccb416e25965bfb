"""All steps in the scene: in nodes of their own, or as a sequence."""

import json

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

import finished_run
from DiffSegLib.scene import hierarchy, kept, nodes, steps, uncertainty
from DiffSegLib.scene.host import inside_slicer
from finished_run import LABELS, MASK, count, edit, held, make_run

host, volume, run = finished_run.host, finished_run.volume, finished_run.run  # fixtures


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


# ---- read back


@pytest.mark.parametrize("way", [steps.keep, steps.keep_as_sequence])
def test_a_run_is_read_back_from_the_steps_that_a_bundle_kept(run, host, tmp_path, way):
    run.node.RemoveAttribute("DiffSeg.Key")  # an answer in a node that the caller gave
    way(run)
    steps.show(run, 2)
    host.save_bundle(tmp_path / "scene.mrb")
    host.scene.Clear(0)
    host.read_bundle(tmp_path / "scene.mrb")
    volume = slicer.util.getNode("scan")
    again = kept.read(volume)
    assert again.volume is volume and again.node is slicer.util.getNode("scan DiffSeg") and again.finished
    assert again.labels == LABELS and again.checksums == run.checksums and again.provenance == run.provenance
    assert again.volumesMl == pytest.approx({x.name: (x.value == MASK).sum() * 0.8 * 0.9 * 2 / 1000 for x in LABELS})
    for mask, before in zip(again.masks, run.masks, strict=True):
        np.testing.assert_array_equal(mask, before)
    assert steps.held_step(again) == 2 and len(again.steps) == (3 if way is steps.keep else 0)
    kinds = {node.GetName(): steps.is_kept(node) for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")}
    assert not kinds.pop("scan DiffSeg") and all(kinds.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda run: edit(run.steps[0]),
        lambda run: run.steps[0].RemoveAttribute(nodes.LABELS),
        lambda run: run.steps[0].SetAttribute(nodes.LABELS, '[{"number": 1}]'),
        lambda run: run.node.RemoveAttribute("DiffSeg.Written"),
        lambda run: make_run(run.volume, [np.roll(MASK, n, axis=2) for n in (2, 1, 0)]),
        lambda run: make_run(run.volume, run.masks[1:]),
        lambda run: run.volume.SetAndObserveImageData(None),
    ],
)
def test_steps_that_are_not_those_of_the_answer_are_not_read(run, change):
    steps.keep(run)
    assert kept.read(run.volume) is not None
    change(run)
    assert kept.read(run.volume) is None


def test_the_newest_answer_is_read_and_an_uncertainty_only_as_it_was_written(run):
    steps.keep(run)
    other = make_run(run.volume, [np.roll(MASK, n, axis=2) for n in (1, 0)], name="other")
    assert kept.read(run.volume).node is run.node
    steps.keep_as_sequence(other)
    other.uncertainty = np.full(MASK.shape, 0.5, np.float32)
    node = uncertainty.show(other)
    again = kept.read(run.volume)
    assert again.node is other.node and again.uncertaintyNode is node and again.uncertainty.max() == 0.5
    slicer.util.arrayFromVolume(node)[:2] = 1.0
    assert kept.read(run.volume).uncertainty is None


def test_kept_steps_of_the_answer_before_are_told_of_until_they_are_kept_again(run):
    assert steps.tell_of_earlier(run) == []
    steps.keep(run)
    sequence = steps.keep_as_sequence(run)
    assert steps.tell_of_earlier(make_run(run.volume, run.masks)) == [], "the same answer once more"
    again = make_run(run.volume, [np.roll(MASK, n, axis=0) for n in (2, 1, 0)])
    told = steps.tell_of_earlier(again)
    assert len(told) == 2 and "scan DiffSeg step 1 and the steps beside it" in told[0] and sequence.GetName() in told[1]
    shorter = make_run(run.volume, run.masks[:2])
    assert len(steps.tell_of_earlier(shorter)) == 2
    steps.keep(shorter)
    assert [sequence.GetName() in text for text in steps.tell_of_earlier(shorter)] == [True]
    steps.keep_as_sequence(shorter)
    assert steps.tell_of_earlier(shorter) == []


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
