"""Segments as masks on one grid, in files: what lies on another grid or under a transform is resampled by MRML."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from DiffSegLib.errors import InputError
from DiffSegLib.jobs import StoredMask
from DiffSegLib.scene.words import tr as _

LABELMAP = "Binary labelmap"


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels in space. `image` is a vtkOrientedImageData without values, in the space of the node under `transform`."""

    image: Any
    transform: Any
    name: str

    @property
    def spacing(self) -> tuple[float, ...]:
        """In mm in array order (k, j, i)."""
        return tuple(float(x) for x in reversed(self.image.GetSpacing()))


def grid_of_volume(volumeNode: Any) -> Grid:
    """The grid of a volume node; raises InputError where it has no voxels."""
    if volumeNode.GetImageData() is None:
        raise InputError(_("{name} holds no voxels; load its image again.").format(name=volumeNode.GetName()))
    matrix, image = vtk.vtkMatrix4x4(), slicer.vtkOrientedImageData()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.SetExtent(volumeNode.GetImageData().GetExtent())
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return Grid(image, volumeNode.GetParentTransformNode(), volumeNode.GetName())


def grid_of_segmentation(node: Any) -> Grid:
    """The grid that a segmentation was drawn on (its reference geometry); raises InputError where it names none."""
    key = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text, image = node.GetSegmentation().GetConversionParameter(key), slicer.vtkOrientedImageData()
    if text and slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False):
        return Grid(image, node.GetParentTransformNode(), node.GetName())
    volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    if volume is not None:
        return grid_of_volume(volume)
    text = _("{name} does not say on which grid it was drawn; choose a volume that gives the grid.")
    raise InputError(text.format(name=node.GetName()))


class MaskWriter:
    """Writes the segments of one segmentation node as masks on a grid; the node stays as it is.

    A label map that several segments share is resampled and written once, as `<prefix>-<number>.npy`. `resampled` tells
    whether one had to be, `cut` whether voxels of it lie outside of the grid.
    """

    def __init__(self, node: Any, grid: Grid, folder: Path, prefix: str) -> None:
        self.node, self.grid, self.folder, self.prefix = node, grid, folder, prefix
        self.resampled = self.cut = False
        self._layers: dict[Any, str] = {}  # image -> file; holds the images, so that none can take another's place
        self._toGrid = None
        if node.GetParentTransformNode() is not grid.transform:
            self._toGrid = vtk.vtkGeneralTransform()
            slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
                node.GetParentTransformNode(), grid.transform, self._toGrid
            )

    def __call__(self, identifier: str) -> StoredMask:
        """The mask of one segment, which may be empty; raises InputError where it cannot be made."""
        segment = self.node.GetSegmentation().GetSegment(identifier)
        image, value = segment.GetRepresentation(LABELMAP), segment.GetLabelValue()
        if image is None:  # a surface only: converted aside, with a label map of its own
            image, value = slicer.vtkOrientedImageData(), 1
            logic = slicer.modules.segmentations.logic()
            if not logic.GetSegmentRepresentation(self.node, identifier, LABELMAP, image, False):
                text = _("Segment {segment} of {name} cannot be made a label map.")
                raise InputError(text.format(segment=segment.GetName(), name=self.node.GetName()))
        if image not in self._layers:
            path = self.folder / f"{self.prefix}-{len(self._layers)}.npy"
            np.save(path, self._onGrid(image))
            self._layers[image] = str(path)
        return self._layers[image], value

    def _onGrid(self, image: Any) -> np.ndarray:
        """(K, J, I) values of a label map on the grid."""
        grid, extent = self.grid.image.GetExtent(), [0, -1, 0, -1, 0, -1]
        resample = slicer.vtkOrientedImageDataResample
        filled = image.GetPointData().GetScalars() is not None and resample.CalculateEffectiveExtent(image, extent)
        if not filled or extent[0] > extent[1]:
            return np.zeros([b - a + 1 for a, b in zip(grid[::2], grid[1::2], strict=True)][::-1], dtype=np.uint8)
        self.cut = self.cut or self._reachesOut(image, _values(image, extent), extent)
        if self._toGrid is not None or not resample.DoGeometriesMatch(image, self.grid.image):
            self.resampled = True
        moved = slicer.vtkOrientedImageData()  # without resampling, a copy in the grid's extent
        resample.ResampleOrientedImageToReferenceOrientedImage(
            image, self.grid.image, moved, False, False, self._toGrid
        )
        return _values(moved, grid)

    def _reachesOut(self, image: Any, values: np.ndarray, extent: list[int]) -> bool:
        """Whether a voxel that is not 0 has its centre outside of the grid.

        The first and the last of each row decide: what is inside of a box is one piece of any straight line.
        """
        inside = values != 0
        k, j = np.nonzero(inside.any(axis=2))
        ends = (inside.argmax(axis=2)[k, j], inside.shape[2] - 1 - inside[:, :, ::-1].argmax(axis=2)[k, j])
        ijk = np.concatenate([np.stack([i, j, k, np.ones_like(i)]) for i in ends], axis=1).astype(float)
        ijk[:3] += np.array(extent[::2])[:, None]
        toWorld, toIjk = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(toWorld)
        self.grid.image.GetWorldToImageMatrix(toIjk)
        points = slicer.util.arrayFromVTKMatrix(toWorld) @ ijk
        if self._toGrid is not None:
            source, moved = vtk.vtkPoints(), vtk.vtkPoints()
            source.SetData(numpy_to_vtk(np.ascontiguousarray(points[:3].T)))
            self._toGrid.TransformPoints(source, moved)
            points[:3] = vtk_to_numpy(moved.GetData()).T
        found = (slicer.util.arrayFromVTKMatrix(toIjk) @ points)[:3]
        limits = np.array(self.grid.image.GetExtent(), dtype=float)
        return bool(((found < limits[::2, None] - 0.501) | (found > limits[1::2, None] + 0.501)).any())


def _values(image: Any, extent: Sequence[int]) -> np.ndarray:
    """(K, J, I) whole numbers of a label map in an extent (i0, i1, j0, j1, k0, k1) of it."""
    whole = image.GetExtent()
    values: np.ndarray = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    values = values[tuple(slice(extent[n] - whole[n], extent[n + 1] - whole[n] + 1) for n in (4, 2, 0))]
    return values if values.dtype.kind in "ui" else values.astype(np.int32)
