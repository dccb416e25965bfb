"""A region of interest on real MRML: the voxels that lie in it, and one that is placed for a model."""

import numpy as np
import pytest

from conftest import turned

pytest.importorskip("slicer", reason="needs the package slicer-core")

import slicer
import slicer.util
import vtk

from DiffSegLib.errors import InputError
from DiffSegLib.scene import roi
from DiffSegLib.scene.host import SceneHost

SHAPE = (40, 50, 60)  # k, j, i
SPACING = np.array([0.9, 1.1, 2.0])  # i, j, k
BOX = ((10, 20), (5, 25), (30, 45))


def affine(angles, spacing, origin):
    """(4, 4) of a turned grid."""
    matrix = np.eye(4)
    matrix[:3, :3] = turned(*angles) @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


IJK_TO_RAS = affine([20, -10, 35], SPACING, (12, -30, 55))
SHIFT_AND_TURN = affine([-40, 25, 10], (1, 1, 1), (100, -20, 7))


def vtk_matrix(matrix):
    made = vtk.vtkMatrix4x4()
    made.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    return made


@pytest.fixture(scope="module")
def host():
    return SceneHost()


@pytest.fixture
def volume(host, monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", host.scene)
    monkeypatch.setattr(slicer, "modules", slicer.modules)
    host.scene.Clear(0)
    views = [view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode") if view.IsMappedInLayout()]
    for view in views:  # of Slicer's window, where there is one: a region is placed where they look
        view.SetMappedInLayout(False)
    yield add_volume()
    for view in views:
        view.SetMappedInLayout(True)


def add_volume(matrix=IJK_TO_RAS, shape=SHAPE):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(node, np.zeros(shape, np.int16))
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    return node


def add_transform(matrix):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(vtk_matrix(matrix))
    return node


def add_bend(shift):
    """A grid transform that is not linear to Slicer, and shifts by `shift` mm everywhere near the volume."""
    image = vtk.vtkImageData()
    image.SetDimensions(3, 3, 3)
    image.SetOrigin(-500, -500, -500)
    image.SetSpacing(500, 500, 500)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    for n in range(27):
        image.GetPointData().GetScalars().SetTuple3(n, *shift)
    grid = (
        vtk.vtkOrientedGridTransform()
        if hasattr(vtk, "vtkOrientedGridTransform")
        else slicer.vtkOrientedGridTransform()
    )
    grid.SetDisplacementGridData(image)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    node.SetAndObserveTransformToParent(grid)
    assert not node.IsTransformToWorldLinear()
    return node


def add_roi(box=BOX, matrix=IJK_TO_RAS):
    """A ROI whose faces lie half a voxel outside of the outer voxels' centres."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    low, high = (np.array([pair[n] for pair in box[::-1]], dtype=float) for n in (0, 1))
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    place = np.eye(4)
    place[:3, :3] = matrix[:3, :3] / lengths
    place[:3, 3] = (matrix @ [*((low + high - 1) / 2), 1.0])[:3]
    node.SetAndObserveObjectToNodeMatrix(vtk_matrix(place))
    node.SetSize(*((high - low) * lengths).tolist())
    return node


def test_no_region_is_the_whole_volume(volume):
    assert roi.box_of(None, volume) is None


def test_a_region_turned_like_an_oblique_volume_gives_exactly_its_voxels(volume):
    assert roi.box_of(add_roi(), volume) == BOX


def test_a_region_around_the_whole_volume_gives_all_of_it(volume):
    whole = tuple((0, n) for n in SHAPE)
    assert roi.box_of(add_roi(whole), volume) == whole


def test_a_region_that_reaches_over_the_edge_is_cut_there(volume):
    assert roi.box_of(add_roi(((-5, 8), (45, 70), (-3, 99))), volume) == ((0, 8), (45, 50), (0, 60))


def test_a_volume_under_a_transform_is_met_where_it_is_shown(volume):
    transform = add_transform(SHIFT_AND_TURN)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    assert roi.box_of(add_roi(matrix=SHIFT_AND_TURN @ IJK_TO_RAS), volume) == BOX


def test_a_region_under_a_transform_of_its_own(volume):
    node = add_roi(matrix=np.linalg.inv(SHIFT_AND_TURN) @ IJK_TO_RAS)
    node.SetAndObserveTransformNodeID(add_transform(SHIFT_AND_TURN).GetID())
    assert roi.box_of(node, volume) == BOX


def test_both_under_the_same_transform(volume):
    transform = add_transform(SHIFT_AND_TURN).GetID()
    node = add_roi()
    for each in (volume, node):
        each.SetAndObserveTransformNodeID(transform)
    assert roi.box_of(node, volume) == BOX


def test_a_volume_under_a_transform_that_is_not_linear(volume):
    shift = IJK_TO_RAS[:3, 0] * 10  # ten voxels along i
    volume.SetAndObserveTransformNodeID(add_bend(shift).GetID())
    (k, j, (low, high)) = BOX
    assert roi.box_of(add_roi(), volume) == (k, j, (low - 10, high - 10))


def test_a_region_turned_against_the_volume_gives_the_box_around_it(host, volume):
    straight = add_volume(np.eye(4))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    turned = affine([0, 0, 45], (1, 1, 1), (30, 25, 20))
    node.SetAndObserveObjectToNodeMatrix(vtk_matrix(turned))
    node.SetSize(10 * np.sqrt(2), 10 * np.sqrt(2), 6)
    assert roi.box_of(node, straight) == ((17, 24), (15, 36), (20, 41))


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (((80, 90), (5, 25), (30, 45)), "R lies outside of scan"),
        (((10, 10.2), (5, 25), (30, 45)), "thinner than a voxel"),
    ],
)
def test_a_region_without_voxels_gets_a_sentence(volume, box, words):
    with pytest.raises(InputError, match=words):
        roi.box_of(add_roi(box), volume)


def test_a_region_without_size_gets_a_sentence(volume):
    with pytest.raises(InputError, match="R has no size yet"):
        roi.box_of(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R"), volume)


def test_a_box_of_voxels_is_taken_as_it_is(volume):
    assert roi.box_of([[10, 20], [5, 25], [30, 45]], volume) == BOX


@pytest.mark.parametrize(
    "box", [((0, 41), (0, 9), (0, 9)), ((3, 3), (0, 9), (0, 9)), ((0, 9), (0, 9)), ((0, 1.9), (0, 9), (0, 9)), 7, "abc"]
)
def test_a_box_that_is_none_is_told(volume, box):
    with pytest.raises(InputError, match="ROI node or|does not lie inside"):
        roi.box_of(box, volume)


FIELD = (36.0, 50.0, 34.0)  # z, y, x of the patient


def test_a_placed_region_has_the_models_size_along_the_patients_axes(volume):
    node = roi.place(volume, FIELD, "hippocampus region")
    assert node.GetSize() == pytest.approx(FIELD[::-1], abs=1e-6)  # this volume's i, j, k are nearest to x, y, z
    assert node.GetCenterWorld() == pytest.approx((IJK_TO_RAS @ [29.5, 24.5, 19.5, 1])[:3].tolist(), abs=1e-6)
    sizes = [high - low for low, high in roi.box_of(node, volume)]
    assert sizes == pytest.approx([mm / s for mm, s in zip(FIELD, SPACING[::-1], strict=True)], abs=1)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_it_fits_however_the_volume_is_stored(host, volume, order, sign):
    """Sagittal, coronal and left-handed grids: the box is FIELD along z, y, x of the patient in each."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, list(order)] * [sign, 1, 1]
    other = add_volume(matrix, (80, 80, 80))
    node = roi.place(other, FIELD, "r")
    box = roi.box_of(node, other)
    by_axis = {axis: box[2 - column][1] - box[2 - column][0] for column, axis in enumerate(order)}
    assert [by_axis[2], by_axis[1], by_axis[0]] == pytest.approx(FIELD, abs=1)
    assert np.linalg.det(slicer.util.arrayFromVTKMatrix(node.GetObjectToNodeMatrix())) > 0


def test_a_transform_that_enlarges_the_volume_enlarges_the_region(volume):
    volume.SetAndObserveTransformNodeID(add_transform(np.diag([2.0, 2.0, 2.0, 1.0])).GetID())
    node = roi.place(volume, FIELD, "r")
    assert node.GetSize() == pytest.approx([2 * mm for mm in FIELD[::-1]], abs=1e-6)
    sizes = [high - low for low, high in roi.box_of(node, volume)]
    assert sizes == pytest.approx([mm / s for mm, s in zip(FIELD, SPACING[::-1], strict=True)], abs=1)


def test_it_is_placed_where_the_slice_view_looks(volume):
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    point = IJK_TO_RAS @ [40, 20, 10, 1]
    matrix = view.GetSliceToRAS()
    for row in range(3):
        matrix.SetElement(row, 3, point[row])
    view.UpdateMatrices()
    assert roi.place(volume, FIELD, "r").GetCenterWorld() != pytest.approx(point[:3].tolist())  # no layout shows it
    view.SetMappedInLayout(True)
    assert roi.place(volume, FIELD, "r").GetCenterWorld() == pytest.approx(point[:3].tolist(), abs=1e-4)
    matrix.SetElement(0, 3, 9999.0)
    view.UpdateMatrices()
    middle = (IJK_TO_RAS @ [29.5, 24.5, 19.5, 1])[:3].tolist()
    assert roi.place(volume, FIELD, "r").GetCenterWorld() == pytest.approx(middle, abs=1e-6)


def test_placed_again_it_is_the_same_node_and_the_users_own_is_left_alone(volume):
    own = add_roi()
    before = list(own.GetCenterWorld())
    first = roi.place(volume, FIELD, "hippocampus region")
    first.SetSize(1, 2, 3)
    assert roi.place(volume, FIELD, "hippocampus region") is first and first is not own
    assert first.GetSize() == pytest.approx(FIELD[::-1], abs=1e-6) and list(own.GetCenterWorld()) == before
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")) == 2
    assert roi.place(volume, (10, 10, 10), "kidney region").GetName() == "kidney region"


def test_the_extent_is_in_the_grids_own_mm(volume):
    volume.SetAndObserveTransformNodeID(add_transform(np.diag([2.0, 2.0, 2.0, 1.0])).GetID())
    assert roi.extent_mm(volume, None) == pytest.approx((80.0, 55.0, 54.0))
    assert roi.extent_mm(volume, BOX) == pytest.approx((20.0, 22.0, 13.5))
