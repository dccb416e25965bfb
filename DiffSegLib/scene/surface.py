"""Closed surfaces of a segmentation, from the filled part of its label maps only."""

from typing import Any

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

LABELMAP, SURFACE = "Binary labelmap", "Closed surface"  # representations of a segmentation


def make_surface(segmentation: Any) -> None:
    """Make what `segmentation.CreateRepresentation("Closed surface", True)` makes, and tell the same observers.

    Slicer goes through the whole label map for each segment; in a head of 256 x 256 x 170 voxels two structures of
    2 ml take it 50 to 100 ms, during which the window stands still, and 9 ms where the empty part is left out.
    """
    parts: dict[Any, Any] = {}
    aside = slicer.vtkSegmentation()
    aside.SetSourceRepresentationName(LABELMAP)
    aside.CopyConversionParameters(segmentation)
    names = segmentation.GetSegmentIDs()
    segments = [segmentation.GetSegment(name) for name in names]
    images = [segment.GetRepresentation(LABELMAP) for segment in segments]
    drawn = segmentation.GetSourceRepresentationName() == LABELMAP  # else the surfaces may be the user's own
    if not drawn or any(image is None or image.GetPointData().GetScalars() is None for image in images):
        segmentation.CreateRepresentation(SURFACE, True)
        return
    for name, segment, image in zip(names, segments, images, strict=True):
        if image not in parts:  # several segments may share it, and are smoothed together if the user wants that
            parts[image] = filled_part(image)
        copy = slicer.vtkSegment()
        copy.SetLabelValue(segment.GetLabelValue())
        copy.AddRepresentation(LABELMAP, parts[image])
        aside.AddSegment(copy, name)
    aside.CreateRepresentation(SURFACE, True)
    # the first segment last: when it has a surface, a 3D view makes all that are lacking, from the whole label map
    for name, segment in reversed(list(zip(names, segments, strict=True))):
        segment.AddRepresentation(SURFACE, aside.GetSegment(name).GetRepresentation(SURFACE))
        segmentation.InvokeEvent(slicer.vtkSegmentation.RepresentationModified, name)
    segmentation.InvokeEvent(slicer.vtkSegmentation.ContainedRepresentationNamesModified)


def filled_part(image: Any) -> Any:
    """The part of a label map that is not 0, with a border of one voxel where there is one; at least one voxel."""
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    ranges: list[tuple[int, int]] = []
    for axis in range(3):
        left = values[tuple(slice(*each) for each in ranges)]  # smaller from axis to axis
        filled = left.any(axis=tuple(n for n in range(3) if n != axis)).nonzero()[0]
        low, high = (filled[0], filled[-1]) if len(filled) else (0, 0)
        ranges.append((max(int(low) - 1, 0), min(int(high) + 2, values.shape[axis])))
    whole, geometry = image.GetExtent(), vtk.vtkMatrix4x4()
    extent = [whole[2 * n] + edge for n, (low, high) in enumerate(ranges[::-1]) for edge in (low, high - 1)]
    image.GetImageToWorldMatrix(geometry)
    part = slicer.vtkOrientedImageData()
    part.SetExtent(*extent)
    part.AllocateScalars(image.GetScalarType(), 1)
    part.SetGeometryFromImageToWorldMatrix(geometry)
    inside = values[tuple(slice(*each) for each in ranges)]
    vtk_to_numpy(part.GetPointData().GetScalars()).reshape(inside.shape)[:] = inside
    return part
