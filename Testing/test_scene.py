"""The scene room on real MRML: geometry, names, colours, in-place updates, and the worker's life and death."""

import json

import numpy as np
import pytest

from conftest import blob_case, turned, write_image

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

from DiffSegLib.data.files import read
from DiffSegLib.errors import DiffSegError, InputError
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from DiffSegLib.scene.bundle import segment_to_bundle
from DiffSegLib.scene.host import SceneHost
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.process import WorkerClient
from DiffSegLib.scene.transport import PipeTransport
from tiny_models import answer_of

CODES = {"category": ("SCT", "123037004", "Anatomical Structure"), "type": ("SCT", "5366008", "Hippocampus")}
LABELS = (Label(1, "first", (0.9, 0.6, 0.3), **CODES), Label(2, "second", (0.2, 0.3, 0.9)))
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = turned(20, -10, 35) @ np.diag([0.9, 1.1, 2.0])
OBLIQUE[:3, 3] = (12.0, -30.0, 55.0)


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def scene(host, monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", host.scene)  # a test may make a host of its own
    monkeypatch.setattr(slicer, "modules", slicer.modules)
    host.scene.Clear(0)
    return host


@pytest.fixture(scope="module")
def client():
    made = WorkerClient(transport=PipeTransport)
    yield made
    made.shutdown()


@pytest.fixture
def volume(scene, tmp_path):
    path = write_image(tmp_path / "scan.nrrd", blob_case(0)[0], OBLIQUE)
    return scene.load_volume(path, "scan")


def test_a_volume_node_gives_the_voxels_and_place_that_its_file_has(volume, tmp_path):
    direct = read(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(nodes.volume_array(volume), direct.array[0])
    np.testing.assert_allclose(nodes.ijk_to_lps(volume), direct.affine, atol=1e-6)


def test_masks_names_colors_and_terminology_arrive_on_the_volumes_grid(volume):
    mask = blob_case(0)[1]
    node = nodes.make_segmentation(volume, "result", "key", LABELS)
    nodes.write_labels(node, mask, volume, LABELS)
    np.testing.assert_array_equal(nodes.read_labels(node, volume, LABELS), mask)
    first = node.GetSegmentation().GetSegment("Segment_1")
    assert first.GetName() == "first" and first.GetColor() == pytest.approx((0.9, 0.6, 0.3), abs=1e-3)
    assert "SCT^5366008^Hippocampus" in first.GetTerminology()
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume


@pytest.mark.parametrize("shape", [(4, 6, 8), (3, 5, 7), (20, 256, 256)])
def test_masks_are_the_same_only_if_every_voxel_is(shape):
    mask = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
    assert nodes.same(mask, mask.copy()) and nodes.same(mask[::2], mask[::2].copy())
    for place in ((0, 0, 0), tuple(size // 2 for size in shape), tuple(size - 1 for size in shape)):
        other = mask.copy()
        other[place] += 1
        assert not nodes.same(mask, other) and not nodes.same(other[::-1], mask[::-1])
    assert not nodes.same(mask, mask[:-1]) and nodes.same(mask, mask.astype(np.int16))


def test_a_second_mask_is_written_in_place_and_keeps_what_the_user_set(volume):
    mask = blob_case(0)[1]
    node = nodes.make_segmentation(volume, "result", "key", LABELS)
    nodes.write_labels(node, mask, volume, LABELS)
    segment = node.GetSegmentation().GetSegment("Segment_2")
    segment.SetName("renamed by the user")
    node.GetDisplayNode().SetSegmentVisibility("Segment_1", False)
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    other = np.roll(mask, 3, axis=1)
    count = slicer.mrmlScene.GetNumberOfNodes()
    nodes.write_labels(nodes.make_segmentation(volume, "result", "key", LABELS), other, volume, LABELS)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    np.testing.assert_array_equal(nodes.read_labels(node, volume, LABELS), other)
    assert node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap") is image
    assert segment.GetName() == "renamed by the user" and not node.GetDisplayNode().GetSegmentVisibility("Segment_1")


def test_an_edited_segmentation_gets_a_new_label_map(volume):
    """After an edit the label map may have shrunk; the result must be right all the same."""
    mask = blob_case(0)[1]
    node = nodes.make_segmentation(volume, "result", "key", LABELS)
    nodes.write_labels(node, mask, volume, LABELS)
    small = np.zeros_like(mask)
    small[5:8, 5:8, 5:8] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(small, node, "Segment_1", volume)
    nodes.write_labels(node, mask, volume, LABELS)
    np.testing.assert_array_equal(nodes.read_labels(node, volume, LABELS), mask)


def test_a_closed_surface_follows_the_mask(volume):
    node = nodes.make_segmentation(volume, "result", "key", LABELS)
    nodes.write_labels(node, blob_case(0)[1], volume, LABELS)
    node.CreateClosedSurfaceRepresentation()
    nodes.write_labels(node, np.zeros_like(blob_case(0)[1]), volume, LABELS)
    surface = node.GetSegmentation().GetSegment("Segment_1").GetRepresentation("Closed surface")
    assert surface is not None and surface.GetNumberOfPoints() == 0


def test_a_transformed_volume_gives_a_segmentation_under_the_same_transform(volume):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 40.0)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    mask = blob_case(0)[1]
    node = nodes.make_segmentation(volume, "result", "key", LABELS)
    for shown in (mask, np.roll(mask, 2, axis=0)):
        nodes.write_labels(node, shown, volume, LABELS)
        np.testing.assert_array_equal(nodes.read_labels(node, volume, LABELS), shown)
    assert node.GetTransformNodeID() == transform.GetID()


def test_segmenting_gives_five_step_nodes_the_answer_and_the_mask_of_python(volume, client, tiny_model, tmp_path):
    heard = []
    result = SegmentLogic(client).segment(volume, model=str(tiny_model), seed=4, keepSteps=True, onEvent=heard.append)
    wanted = answer_of(tiny_model, read(tmp_path / "scan.nrrd"), SegmentOptions(seed=4, keep_steps=True))
    np.testing.assert_array_equal(result.mask, wanted.mask)
    np.testing.assert_array_equal(nodes.read_labels(result.node, volume, result.labels), wanted.mask)
    assert [node.GetName() for node in result.steps] == [f"scan DiffSeg step {n}" for n in range(1, 6)]
    for node, mask in zip(result.steps, wanted.steps, strict=True):
        np.testing.assert_array_equal(nodes.read_labels(node, volume, result.labels), mask)
        assert not node.GetDisplayNode().GetVisibility()
    assert result.node.GetDisplayNode().GetVisibility() and result.finished
    assert result.volumesMl == {"first": wanted.volumes_ml[1], "second": wanted.volumes_ml[2]}
    assert [event["step"] for event in heard if event["event"] == "step"] == [1, 2, 3, 4, 5]
    record = json.loads(result.node.GetAttribute("DiffSeg.Json"))
    assert record["seed"] == 4 and result.node.GetAttribute("DiffSeg.Model") == "tiny"


def test_running_again_updates_the_same_nodes(volume, client, tiny_model):
    logic = SegmentLogic(client)
    first = logic.segment(volume, model=str(tiny_model), keepSteps=True)
    count = slicer.mrmlScene.GetNumberOfNodes()
    again = logic.segment(volume, model=str(tiny_model), seed=8, keepSteps=True)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert again.node is first.node and all(a is b for a, b in zip(again.steps, first.steps, strict=True))


def test_without_waiting_the_call_returns_at_once_and_calls_back(volume, client, tiny_model):
    ended = []
    result = SegmentLogic(client).segment(volume, model=str(tiny_model), onFinished=ended.append, wait=False)
    assert not result.finished and client.busy
    client.wait(result.number)
    assert ended == [result] and result.error is None and result.node is not None


def bad_nodes():
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "map")
    vector = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "rgb")
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    flat = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "flat")
    slicer.util.updateVolumeFromArray(flat, np.zeros((1, 5, 5), np.float32))
    return [(None, "input volume"), (labelmap, "map is a label map"), (vector, "rgb is a"), (empty, "no voxels"),
            (flat, "single slice")]  # fmt: skip


@pytest.mark.parametrize("number", range(5))
def test_a_node_that_cannot_be_segmented_gets_a_sentence_and_leaves_the_scene(scene, client, number):
    node, words = bad_nodes()[number]
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(InputError, match=words):
        SegmentLogic(client).segment(node)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_an_error_of_the_engine_arrives_as_one_sentence(volume, client, tiny_model):
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(DiffSegError, match="neither a model file"):
        SegmentLogic(client).segment(volume, model="no-such-model")
    with pytest.raises(DiffSegError, match="does not lie inside"):
        SegmentLogic(client).segment(volume, model=str(tiny_model), roi=((0, 999), (0, 5), (0, 5)))
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_volume_that_gets_another_grid_meanwhile_is_not_written_on(volume, client, tiny_model):
    run = SegmentLogic(client).segment(volume, model=str(tiny_model), wait=False)
    slicer.util.updateVolumeFromArray(volume, np.zeros((9, 11, 10), np.float32))
    volume.SetSpacing(2, 2, 2)
    client.wait(run.number)
    assert isinstance(run.error, InputError) and "scan got another grid meanwhile" in str(run.error)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_bundle_holds_everything_when_read_again(tmp_path, tiny_model, scene):
    image = write_image(tmp_path / "scan.nii.gz", blob_case(0)[0])
    regions = {"one": ((0, 18), (0, 22), (0, 20)), "two": ((1, 17), (1, 21), (1, 19))}
    results = segment_to_bundle(image, regions, tmp_path / "scene.mrb", model=str(tiny_model))
    again = SceneHost()
    again.read_bundle(tmp_path / "scene.mrb")
    found = {node.GetName(): node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")}
    assert set(found) == {
        f"scan {side}{step}" for side in regions for step in ("", *(f" step {n}" for n in range(1, 6)))
    }
    volume = slicer.util.getNode("scan")
    for side, result in results.items():
        np.testing.assert_array_equal(nodes.read_labels(found[f"scan {side}"], volume, result.labels), result.mask)


def test_another_models_labels_take_the_place_of_the_first_ones(volume):
    mask = np.zeros(nodes.volume_array(volume).shape, np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    node = nodes.make_segmentation(volume, "scan DiffSeg", "x", LABELS)
    nodes.write_labels(node, mask, volume, LABELS)
    kidney = (Label(1, "Kidney", (0.5, 0.1, 0.1)),)
    assert nodes.make_segmentation(volume, "scan DiffSeg", "x", kidney) is node
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 1 and segmentation.GetNthSegment(0).GetName() == "Kidney"


def test_a_name_that_the_user_gave_stays_when_the_same_model_runs_again(volume):
    node = nodes.make_segmentation(volume, "scan DiffSeg", "x", LABELS)
    node.GetSegmentation().GetNthSegment(0).SetName("left hippocampal head")
    nodes.make_segmentation(volume, "scan DiffSeg", "x", LABELS)
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "left hippocampal head"


def test_a_result_of_one_volume_is_never_written_into_anothers(scene, volume):
    first = nodes.make_segmentation(volume, "scan DiffSeg", "x", LABELS)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(other, blob_case(1)[0])
    assert nodes.make_segmentation(other, "scan DiffSeg", "x", LABELS) is not first


def test_the_reference_geometry_of_a_transformed_volume_is_not_moved_twice(scene, volume):
    import vtk

    shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    shift.SetMatrixTransformToParent(matrix)
    plain = nodes.make_segmentation(volume, "a", "a", LABELS)
    volume.SetAndObserveTransformNodeID(shift.GetID())
    moved = nodes.make_segmentation(volume, "b", "b", LABELS)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    geometries = [n.GetSegmentation().GetConversionParameter(name) for n in (plain, moved)]
    assert geometries[0] == geometries[1]
