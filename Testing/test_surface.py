"""Closed surfaces made from the filled part of label maps are Slicer's own, to the last digit."""

import numpy as np
import pytest

from conftest import ROOT  # noqa: F401 - the engine's folder comes onto the path

pytest.importorskip("slicer")
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DiffSegLib.scene.host import SceneHost
from DiffSegLib.scene.surface import LABELMAP, SURFACE, filled_part, make_surface

SHAPE = (30, 40, 50)
TURNED = np.array([[0.0, -0.8, 0.6, 5.0], [2.0, 0.0, 0.0, -7.0], [0.0, 0.6, 0.8, 9.0], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module", autouse=True)
def host():
    yield SceneHost()


def label_map(mask, first=(0, 0, 0), matrix=TURNED):
    """A vtkOrientedImageData of a (K, J, I) mask whose first voxel is at (i, j, k) `first`."""
    image, geometry = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    image.SetExtent(
        *[n for start, size in zip(first, mask.shape[::-1], strict=True) for n in (start, start + size - 1)]
    )
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    geometry.DeepCopy(matrix.ravel().tolist())
    image.SetGeometryFromImageToWorldMatrix(geometry)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask.shape)[:] = mask
    return image


def ball(center, radius):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))
    return ((grid - np.reshape(center, (3, 1, 1, 1))) ** 2).sum(0) < radius**2


def segmentation_of(*layers):
    """A vtkSegmentation: for each layer an image and the values in it that are segments."""
    found = slicer.vtkSegmentation()
    found.SetSourceRepresentationName(LABELMAP)
    for image, values in layers:
        for value in values:
            segment = slicer.vtkSegment()
            segment.SetLabelValue(value)
            segment.AddRepresentation(LABELMAP, image)
            found.AddSegment(segment, f"Segment_{found.GetNumberOfSegments()}")
    return found


def masks():
    two = np.zeros(SHAPE, np.uint8)
    two[ball((12, 18, 20), 6)], two[ball((12, 26, 24), 5)] = 1, 2
    border = np.zeros(SHAPE, np.uint8)
    border[:5, 30:, 10:20] = 3
    return {
        "two touching": two,
        "at the border": border,
        "empty": np.zeros(SHAPE, np.uint8),
        "full": np.ones(SHAPE, np.uint8),
    }


def surfaces(segmentation):
    found = []
    for name in segmentation.GetSegmentIDs():
        surface = segmentation.GetSegment(name).GetRepresentation(SURFACE)
        points = surface.GetPoints()
        cells = vtk_to_numpy(surface.GetPolys().GetConnectivityArray()) if surface.GetNumberOfPolys() else np.zeros(0)
        found.append((vtk_to_numpy(points.GetData()).copy() if points else np.zeros((0, 3)), cells.copy()))
    return found


def both(segmentation):
    """Slicer's own surfaces, and ours."""
    assert segmentation.CreateRepresentation(SURFACE, True)
    wanted = surfaces(segmentation)
    segmentation.RemoveRepresentation(SURFACE)
    make_surface(segmentation)
    assert segmentation.ContainsRepresentation(SURFACE)
    return wanted, surfaces(segmentation)


@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("first", [(0, 0, 0), (-3, 4, 11)])
@pytest.mark.parametrize(
    ("key", "value"), [("", ""), ("Smoothing factor", "0.0"), ("Decimation factor", "0.4"), ("Joint smoothing", "1")]
)
def test_the_surfaces_are_slicer_s(kind, first, key, value):
    mask = masks()[kind]
    segmentation = segmentation_of((label_map(mask, first), sorted({1, 2, *np.unique(mask).tolist()} - {0})))
    if key:
        assert segmentation.GetConversionParameter(key), key
        segmentation.SetConversionParameter(key, value)
    wanted, found = both(segmentation)
    assert kind == "empty" or any(len(points) for points, _ in wanted)
    for (points, cells), (other_points, other_cells) in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(cells, other_cells)
        np.testing.assert_allclose(points, other_points, atol=1e-4)


def test_each_label_map_of_overlapping_segments_is_cut_by_itself():
    one, other = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    one[ball((8, 10, 10), 5)], other[ball((10, 12, 12), 7)] = 1, 1
    wanted, found = both(segmentation_of((label_map(one), [1]), (label_map(other), [1])))
    for (points, _), (others, _) in zip(wanted, found, strict=True):
        assert len(points)
        np.testing.assert_allclose(points, others, atol=1e-4)


def test_what_shows_the_surfaces_hears_of_them():
    segmentation = segmentation_of((label_map(masks()["two touching"]), [1, 2]))
    heard = []
    for event in ("RepresentationModified", "ContainedRepresentationNamesModified", "SegmentModified"):
        segmentation.AddObserver(getattr(slicer.vtkSegmentation, event), lambda *_, event=event: heard.append(event))
    make_surface(segmentation)
    assert heard.count("RepresentationModified") == 2 and heard[-1] == "ContainedRepresentationNamesModified"
    assert heard.count("SegmentModified") >= 2


def test_segments_that_are_surfaces_only_are_left_to_slicer():
    segmentation = segmentation_of((label_map(masks()["two touching"]), [1]))
    make_surface(segmentation)
    drawn = slicer.vtkSegmentation()
    drawn.SetSourceRepresentationName(SURFACE)
    segment = slicer.vtkSegment()
    segment.AddRepresentation(SURFACE, segmentation.GetSegment("Segment_0").GetRepresentation(SURFACE))
    drawn.AddSegment(segment, "a")
    make_surface(drawn)
    assert drawn.GetSegment("a").GetRepresentation(SURFACE).GetNumberOfPoints() > 0
    own = drawn.GetSegment("a").GetRepresentation(SURFACE)
    segment.AddRepresentation(LABELMAP, label_map(masks()["at the border"]))  # made from it, and not its source
    make_surface(drawn)
    assert drawn.GetSegment("a").GetRepresentation(SURFACE) is own


def test_the_filled_part_has_a_border_of_one_voxel_and_lies_where_it_lay():
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:6, 0:2, 20:50] = 7
    part = filled_part(label_map(mask, (2, -1, 5)))
    assert part.GetExtent() == (2 + 19, 2 + 49, -1, -1 + 2, 5 + 2, 5 + 6)
    matrix = vtk.vtkMatrix4x4()
    part.GetImageToWorldMatrix(matrix)
    np.testing.assert_allclose([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)], TURNED, atol=1e-12)
    assert filled_part(label_map(np.zeros(SHAPE, np.uint8))).GetNumberOfPoints() == 8


def test_a_view_that_makes_what_is_lacking_is_left_nothing_to_make():
    """Slicer's 3D view asks for the surfaces of all segments as soon as the first one has its own."""
    image = label_map(masks()["two touching"])
    segmentation = segmentation_of((image, (1, 2)))
    made = []

    def as_the_view_does(*_):
        if segmentation.GetNthSegment(0).GetRepresentation(SURFACE) is not None:
            made.append([segmentation.GetNthSegment(n).GetRepresentation(SURFACE) is not None for n in range(2)])

    segmentation.AddObserver(slicer.vtkSegmentation.RepresentationModified, as_the_view_does)
    make_surface(segmentation)
    assert made and all(all(each) for each in made)
