"""Regions of interest: a markups ROI or a box -> the voxels that a model sees; and placing a ROI that fits a model."""

import itertools
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from DiffSegLib.data.volume import orientation_of
from DiffSegLib.errors import InputError
from DiffSegLib.scene import nodes
from DiffSegLib.scene.nodes import Box
from DiffSegLib.scene.words import tr as _

ROUNDING = 1e-4  # voxels; a face that lies on a voxel's centre holds it


def box_of(roi: Any, volumeNode: Any) -> Box | None:
    """The voxels of a volume whose centres lie in `roi`, cut at the volume's edges; None for no `roi`.

    roi: a vtkMRMLMarkupsROINode, under transforms of its own or not, or a box of voxels. A ROI that is turned against
    the volume gives the smallest box around it. Raises InputError for one without size or outside of the volume.
    """
    if roi is None:
        return None
    size = nodes.volume_array(volumeNode).shape
    if not hasattr(roi, "GetObjectToWorldMatrix"):
        return _checked(roi, size)
    if min(roi.GetSize()) <= 0.0:
        text = _("{name} has no size yet; place it in the slice views, or choose no region.")
        raise InputError(text.format(name=roi.GetName()))
    ijk = _to_voxels(_lattice(roi), volumeNode)
    low = np.ceil(ijk.min(axis=0) - ROUNDING).astype(int)[::-1]
    high = np.floor(ijk.max(axis=0) + ROUNDING).astype(int)[::-1] + 1
    if (low >= high).any():
        text = _("{name} is thinner than a voxel of {volume}; make it larger.")
        raise InputError(text.format(name=roi.GetName(), volume=volumeNode.GetName()))
    box = tuple((max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, size, strict=True))
    if any(a >= b for a, b in box):
        text = _("{name} lies outside of {volume}; drag it onto the structure.")
        raise InputError(text.format(name=roi.GetName(), volume=volumeNode.GetName()))
    return box


def place(volumeNode: Any, size: Sequence[float], name: str) -> Any:
    """A ROI node of `size` mm along (z, y, x) of the patient, turned like the volume; placed anew, if there is one.

    Its centre is that of the slice view that is looked at, where that lies in the volume; else the volume's.
    """
    roi = _placed_before(volumeNode)
    if roi is None:
        unique = slicer.mrmlScene.GenerateUniqueName(name)
        roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", unique)
        roi.CreateDefaultDisplayNodes()
        roi.GetDisplayNode().SetFillOpacity(0.1)  # the image must be seen through it
        roi.GetDisplayNode().SetPropertiesLabelVisibility(False)
        roi.SetNodeReferenceID(nodes.VOLUME_ROLE, volumeNode.GetID())
    roi.CreateDefaultDisplayNodes()
    roi.SetDisplayVisibility(True)  # it is to be dragged, also if it was hidden after the last run
    roi.SetName(roi.GetName() if roi.GetName().startswith(name) else slicer.mrmlScene.GenerateUniqueName(name))
    roi.SetAndObserveTransformNodeID(None)
    affine = nodes.ijk_to_lps(volumeNode)
    axes = orientation_of(affine).axes  # canonical axis n is array axis axes[n]
    voxels = np.zeros(3)
    for mm, axis in zip(size, axes, strict=True):
        voxels[2 - axis] = mm / np.linalg.norm(affine[:3, 2 - axis])
    center = _center(volumeNode)
    world = np.array([_to_world(center + half * np.eye(3)[n], volumeNode) for n in range(3) for half in (-0.5, 0.5)])
    columns = (world[1::2] - world[::2]).T  # what one voxel along i, j, k is in the world, at the centre
    lengths = np.linalg.norm(columns, axis=0)
    if np.linalg.det(columns) < 0:  # a box looks the same from behind, and a ROI wants right-handed axes
        columns[:, 2] *= -1.0
    matrix = vtk.vtkMatrix4x4()
    rows = np.column_stack([columns / lengths, _to_world(center, volumeNode)])
    for row, column in itertools.product(range(3), range(4)):
        matrix.SetElement(row, column, float(rows[row, column]))
    roi.SetAndObserveObjectToNodeMatrix(matrix)
    roi.SetSize(*(float(x) for x in voxels * lengths))
    return roi


def extent_mm(volumeNode: Any, box: Box | None) -> tuple[float, ...]:
    """How large the whole volume or a box of it is in mm, in array order (k, j, i)."""
    spacing = np.linalg.norm(nodes.ijk_to_lps(volumeNode)[:3, :3], axis=0)[::-1]
    shape = nodes.volume_array(volumeNode).shape
    ranges = box or tuple((0, n) for n in shape)
    return tuple(float((high - low) * mm) for (low, high), mm in zip(ranges, spacing, strict=True))


def _placed_before(volumeNode: Any) -> Any:
    found = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    return next((node for node in found if node.GetNodeReference(nodes.VOLUME_ROLE) is volumeNode), None)


def _checked(box: Any, size: tuple[int, ...]) -> Box:
    try:
        ranges = tuple((index(low), index(high)) for low, high in box)  # int() would cut a fraction off
    except (TypeError, ValueError):
        ranges = ()
    if len(ranges) != 3:
        text = _("roi is {box}; it must be a ROI node or ((k0, k1), (j0, j1), (i0, i1)) in whole voxels.")
        raise InputError(text.format(box=repr(box)))
    if any(low < 0 or high <= low or high > n for (low, high), n in zip(ranges, size, strict=True)):
        text = _("The region {ranges} does not lie inside the volume's {size} voxels.")
        raise InputError(text.format(ranges=ranges, size=size))
    return ranges


def _lattice(roi: Any) -> np.ndarray:
    """(125, 3) points of the box in the world: its corners, and some between, as a bent volume needs them."""
    matrix = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    steps = [np.linspace(-0.5, 0.5, 5) * length for length in roi.GetSize()]
    points = np.array([(*point, 1.0) for point in itertools.product(*steps)])
    found: np.ndarray = (points @ matrix.T)[:, :3]
    return found


def _to_voxels(points: np.ndarray, volumeNode: Any) -> np.ndarray:
    """(n, 3) world points -> (n, 3) (i, j, k) of the volume, through its transforms, linear or not."""
    back = vtk.vtkGeneralTransform()
    parent = volumeNode.GetParentTransformNode()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, parent, back)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetRASToIJKMatrix(matrix)
    own = np.array([[*back.TransformPoint(point), 1.0] for point in points.tolist()])
    found: np.ndarray = (own @ slicer.util.arrayFromVTKMatrix(matrix).T)[:, :3]
    return found


def _to_world(ijk: np.ndarray, volumeNode: Any) -> np.ndarray:
    """(i, j, k) -> a point of the world (RAS)."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    forth = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(volumeNode.GetParentTransformNode(), None, forth)
    own = slicer.util.arrayFromVTKMatrix(matrix) @ [*ijk, 1.0]
    return np.array(forth.TransformPoint(own[:3].tolist()))


def _center(volumeNode: Any) -> np.ndarray:
    """(i, j, k) to place a ROI at: see place."""
    shape = np.array(nodes.volume_array(volumeNode).shape[::-1])
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if view.IsMappedInLayout():  # set by the main window's layout only
            matrix = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())
            ijk: np.ndarray = _to_voxels(matrix[:3, 3][None], volumeNode)[0]
            if (ijk > -0.5).all() and (ijk < shape - 0.5).all():
                return ijk
    return (shape - 1) / 2.0
