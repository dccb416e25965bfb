"""The data set of a scene: written as it was drawn, and every mistake in it told."""

import json

import numpy as np
import pytest

from conftest import blob_case

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

import scene_cases
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import read, read_label
from DiffSegLib.labels import Label
from DiffSegLib.scene import dataset, nodes
from scene_cases import LABELS, add_case, drop, rename

host, scene = scene_cases.host, scene_cases.scene  # fixtures


def written(pairs, folder):
    data = dataset.check(pairs)
    assert data.problems == []
    assert list(dataset.export(data, folder, "test")) == list(range(1, len(pairs) + 1))
    return data


def test_cases_are_written_exactly_on_their_own_grids_with_fixed_label_values(scene, tmp_path):
    pairs = [add_case(n, labels=LABELS if n else LABELS[::-1]) for n in range(3)]  # drawn in another order once
    count = slicer.mrmlScene.GetNumberOfNodes()
    data = written(pairs, tmp_path)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    found = load_dataset(tmp_path)
    assert [label.name for label in found.labels] == [label.name for label in data.labels]
    value_of = {label.name: label.value for label in data.labels}
    for n, case in enumerate(found.cases):
        image, (mask, affine) = read(case.images[0]), read_label(case.label)
        np.testing.assert_array_equal(image.array[0], blob_case(n)[0])
        np.testing.assert_allclose(image.affine, nodes.ijk_to_lps(pairs[n][0]), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(affine, image.affine)
        drawn = blob_case(n)[1]
        np.testing.assert_array_equal(mask == value_of["First part"], drawn == 1)
        np.testing.assert_array_equal(mask == value_of["second"], drawn == 2)


def test_names_colours_and_codes_of_the_segments_are_written_for_the_model(scene, tmp_path):
    written([add_case(0), add_case(1)], tmp_path)
    saved = [Label.from_json(item, "x") for item in json.loads((tmp_path / dataset.SEGMENTS_FILE).read_text())]
    assert [label.name for label in saved] == ["First part", "second"]
    assert saved[0].color == pytest.approx((0.9, 0.6, 0.3), abs=1e-6) and saved[0].type == LABELS[0].type
    assert saved[1].category is saved[1].type is None  # Slicer's "Tissue" says nothing


def test_a_transform_of_both_changes_nothing_and_one_of_the_segmentation_alone_moves_its_mask(scene, tmp_path):
    pairs = [add_case(n, affine=np.diag([1.0, 1.0, 1.0, 1.0])) for n in range(2)]
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turn")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, -2.0)  # RAS: two voxels to the patient's left... which is +2 along LPS x
    turn.SetMatrixTransformToParent(matrix)
    for node in pairs[0]:
        node.SetAndObserveTransformNodeID(turn.GetID())
    pairs[1][1].SetAndObserveTransformNodeID(turn.GetID())
    written(pairs, tmp_path)
    labels = [read_label(case.label)[0] for case in load_dataset(tmp_path).cases]
    np.testing.assert_array_equal(labels[0], blob_case(0)[1])
    np.testing.assert_array_equal(labels[1], np.roll(blob_case(1)[1], 2, axis=2))


def test_a_surface_becomes_a_mask_without_changing_the_segmentation(scene):
    volume, node = add_case(0, affine=np.eye(4))
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.GetSegmentation().RemoveRepresentation("Binary labelmap")
    mask, _ = dataset.labels_on_grid(volume, node, {1: "Segment_1", 2: "Segment_2"})
    assert ((mask > 0) == (blob_case(0)[1] > 0)).mean() > 0.99 and set(np.unique(mask)) == {0, 1, 2}
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_overlapping_segments_are_told(scene, tmp_path):
    pairs = [add_case(0), add_case(1)]
    volume, node = pairs[0]
    both = (blob_case(0)[1] > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(both, node, "Segment_1", volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(both, node, "Segment_2", volume)
    data = written(pairs, tmp_path)
    overlapping = "First part and second overlap" in " ".join(data.warnings)
    mask = read_label(load_dataset(tmp_path).cases[0].label)[0]
    assert overlapping == bool(dataset.labels_on_grid(volume, node, {1: "Segment_1", 2: "Segment_2"})[1])
    assert (mask > 0).sum() == both.sum()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pairs: drop(pairs[2], 2), "scan 2 drawn: lacks the segment second; draw it, or add it empty"),
        (lambda pairs: rename(pairs[1], 2, "sekond"), "scan 1 drawn: has the segments First part, sekond; the other"),
        (lambda pairs: pairs[1][1].GetSegmentation().RemoveAllSegments(), "scan 1 drawn: has no segments."),
        (lambda pairs: rename(pairs[0], 2, "first part"), "scan 0 drawn: has two segments called first part"),
        (lambda pairs: slicer.mrmlScene.RemoveNode(pairs[0][0]), "names no volume that it was drawn on"),
        (lambda pairs: pairs[0][0].SetAndObserveImageData(None), "scan 0 holds no voxels"),
        (lambda pairs: pairs.append((pairs[0][0], add_case(7)[1])), "was drawn on scan 0 as scan 0 drawn was"),
        (lambda pairs: pairs.__delitem__(slice(1, None)), "One case is chosen; at least two are needed"),
        (lambda pairs: pairs.clear(), "No case is chosen"),
    ],
)
def test_each_thing_that_is_wrong_with_the_scenes_cases_is_one_sentence(scene, change, words):
    pairs = [add_case(n) for n in range(3)]
    change(pairs)
    problems = dataset.check(
        [(dataset.drawn_on(pair[1]) if pair[0].GetScene() is None else pair[0], pair[1]) for pair in pairs]
    ).problems
    assert len(problems) == 1 and words in problems[0], problems


def test_names_are_compared_in_any_case_of_letters(scene):
    pairs = [add_case(n) for n in range(2)]
    rename(pairs[1], 1, " FIRST Part ")
    found = dataset.check(pairs)
    assert found.problems == [] and found.labels[0].name == "First part"


def test_what_was_drawn_since_is_noticed(scene):
    pairs = [add_case(n) for n in range(2)]
    before = dataset.state_of(pairs)
    assert dataset.state_of(pairs) == before
    nodes.write_labels(pairs[0][1], np.roll(blob_case(0)[1], 1, axis=0), pairs[0][0], LABELS)
    assert dataset.state_of(pairs) != before
