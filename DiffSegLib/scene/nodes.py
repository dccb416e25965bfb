"""Between MRML nodes and arrays: a volume to voxels and geometry, label arrays to segmentation nodes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ATTRIBUTE = "DiffSeg."
VOLUME_ROLE = "DiffSeg.Volume"  # of a segmentation: the volume that it was made on


def check_volume(volumeNode: Any, flat: bool = False) -> None:
    """Raise InputError with one sentence for a node that cannot be segmented; flat: by a 2D model."""
    if volumeNode is None:
        raise InputError("Choose an input volume first.")
    name, kind = volumeNode.GetName(), volumeNode.GetClassName()
    if kind == "vtkMRMLLabelMapVolumeNode":
        raise InputError(f"{name} is a label map; choose the image that it was drawn on.")
    if kind != "vtkMRMLScalarVolumeNode":
        raise InputError(f"{name} is a {kind.removeprefix('vtkMRML')}; a volume with one value per voxel is needed.")
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise InputError(f"{name} holds no voxels; load its image again.")
    if min(image.GetDimensions()) < 2 and not flat:
        raise InputError(f"{name} is a single slice; a 3D volume is needed.")
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(f"{name} has {image.GetNumberOfScalarComponents()} values per voxel; one is needed.")


def volume_array(volumeNode: Any) -> np.ndarray:
    """(K, J, I), a view of the node's voxels."""
    array: np.ndarray = slicer.util.arrayFromVolume(volumeNode)
    return array


def channel_array(volumeNodes: Sequence[Any]) -> np.ndarray:
    """(channels, K, J, I) float32 of volumes on one grid; raises InputError for one on another."""
    first = volumeNodes[0]
    for node in volumeNodes[1:]:
        same = volume_array(node).shape == volume_array(first).shape
        if not same or not np.allclose(ijk_to_lps(node), ijk_to_lps(first), atol=1e-3):
            raise InputError(
                f"{node.GetName()} lies on another grid than {first.GetName()}; resample it to that first."
            )
    return np.stack([volume_array(node).astype(np.float32) for node in volumeNodes])


def make_volume(name: str, array: np.ndarray, affine: np.ndarray) -> Any:
    """A new scalar volume node of a (K, J, I) array on its grid; affine: (4, 4) ijk -> LPS mm."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((RAS_TO_LPS @ affine).ravel().tolist())
    node.SetIJKToRASMatrix(matrix)
    slicer.util.updateVolumeFromArray(node, array)
    return node


def ijk_to_lps(volumeNode: Any) -> np.ndarray:
    """(4, 4) in mm, of the voxels in the node's own space (a transform above it is left out)."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    return RAS_TO_LPS @ ras


def find_segmentation(volumeNode: Any, key: str) -> Any:
    """The segmentation node that was made for `key` on this volume, or None.

    The volume is remembered by a node reference, not by its id: ids are given anew when scenes are merged.
    """
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(ATTRIBUTE + "Key") == key and node.GetNodeReference(VOLUME_ROLE) is volumeNode:
            return node
    return None


def make_segmentation(volumeNode: Any, name: str, key: str, labels: Sequence[Label]) -> Any:
    """A segmentation node for results on `volumeNode`: the one with `key`, or a new one.

    Segments are made once, so that a user's later changes of names, colours and visibility stay; another model's labels
    take their place.
    """
    node = find_segmentation(volumeNode, key)
    if node is None:
        unique = slicer.mrmlScene.GenerateUniqueName(name)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", unique)
        node.CreateDefaultDisplayNodes()
        node.SetAttribute(ATTRIBUTE + "Key", key)
        node.SetNodeReferenceID(VOLUME_ROLE, volumeNode.GetID())
    table = json.dumps([label.to_json() for label in labels])
    if node.GetAttribute(ATTRIBUTE + "Labels") != table:
        node.GetSegmentation().RemoveAllSegments()
        node.SetAttribute(ATTRIBUTE + "Labels", table)
    prepare_segmentation(node, volumeNode, labels)
    return node


def prepare_segmentation(node: Any, volumeNode: Any, labels: Sequence[Label]) -> None:
    """Give a segmentation the volume's geometry, transform and place, and the segments that it lacks."""
    # the transform first: the reference geometry is taken in the segmentation's own space
    if node.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    if node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is not volumeNode:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    segmentation = node.GetSegmentation()
    for label in labels:
        if segmentation.GetSegment(segment_id(label)) is None:
            segmentation.AddEmptySegment(segment_id(label), label.name, label.color)
            entry = label.terminology_entry()
            if entry:
                segmentation.GetSegment(segment_id(label)).SetTerminology(entry)
    _follow_in_hierarchy(node, volumeNode)


def segment_id(label: Label) -> str:
    """The id of a label's segment."""
    return f"Segment_{label.value}"


def write_labels(node: Any, mask: np.ndarray, volumeNode: Any, labels: Sequence[Label]) -> None:
    """Show a (K, J, I) array of label values; segments keep everything but their voxels.

    In place where the segments share one label map of the volume's size (1 ms at 256^3, no flicker), else by import.
    A closed surface that was there is made again, since both ways drop it.
    """
    segmentation = node.GetSegmentation()
    surface = segmentation.ContainsRepresentation("Closed surface")
    if not _write_in_place(segmentation, mask, labels):
        _import(node, mask, volumeNode, labels)
    if surface:
        segmentation.CreateRepresentation("Closed surface", True)


def read_labels(node: Any, volumeNode: Any, labels: Sequence[Label]) -> np.ndarray:
    """(K, J, I) uint8 label values of a segmentation on the volume's grid."""
    mask = np.zeros(volume_array(volumeNode).shape, dtype=np.uint8)
    for label in labels:
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id(label), volumeNode)
        if found is not None:
            mask[found > 0] = label.value
    return mask


def set_provenance(node: Any, provenance: Mapping[str, Any]) -> None:
    """What made the result, in the node's attributes: the main facts one by one, and all of it as JSON."""
    for key in ("engine", "model", "model_sha256", "seed", "steps", "sampler", "samples", "device"):
        if key in provenance:
            title = "".join(part.capitalize() for part in key.split("_"))
            node.SetAttribute(ATTRIBUTE + title, str(provenance[key]))
    node.SetAttribute(ATTRIBUTE + "Json", json.dumps(provenance, default=str))


def _write_in_place(segmentation: Any, mask: np.ndarray, labels: Sequence[Label]) -> bool:
    if segmentation.GetNumberOfSegments() != len(labels) or segmentation.GetNumberOfLayers() != 1:
        return False
    # fetched anew each time: an import or an edit exchanges the image object
    image = segmentation.GetNthSegment(0).GetRepresentation("Binary labelmap")
    if image is None or image.GetExtent() != tuple(n for size in mask.shape[::-1] for n in (0, size - 1)):
        return False
    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        return False
    values = np.zeros(256, dtype=np.uint8)
    for label in labels:
        values[label.value] = segmentation.GetSegment(segment_id(label)).GetLabelValue()
    vtk_to_numpy(scalars).reshape(mask.shape)[:] = values[mask]
    scalars.Modified()
    image.Modified()
    return True


def _import(node: Any, mask: np.ndarray, volumeNode: Any, labels: Sequence[Label]) -> None:
    """Through a temporary label map; its values 1 to n go to the n-th id."""
    order = np.zeros(256, dtype=np.uint8)
    identifiers = vtk.vtkStringArray()
    for number, label in enumerate(labels, start=1):
        order[label.value] = number
        identifiers.InsertNextValue(segment_id(label))
    temporary = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "DiffSeg temporary")
    try:
        slicer.util.updateVolumeFromArray(temporary, order[mask])
        temporary.CopyOrientation(volumeNode)
        temporary.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        logic = slicer.modules.segmentations.logic()
        if not logic.ImportLabelmapToSegmentationNode(temporary, node, identifiers):
            raise RuntimeError(f"The mask could not be brought into {node.GetName()}.")
    finally:
        slicer.mrmlScene.RemoveNode(temporary)


def _follow_in_hierarchy(node: Any, volumeNode: Any) -> None:
    """Place the node beside its volume (under the same study); without the hierarchy's items nothing happens."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is None:
        return
    own, other = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volumeNode)
    if own and other and node.GetAttribute(ATTRIBUTE + "Placed") is None:
        hierarchy.SetItemParent(own, hierarchy.GetItemParent(other))
        node.SetAttribute(ATTRIBUTE + "Placed", "1")  # once: a user may move it
