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
from DiffSegLib.scene.hierarchy import place_beside
from DiffSegLib.scene.surface import LABELMAP, SURFACE, make_surface
from DiffSegLib.scene.words import tr as _

Box = tuple[tuple[int, int], ...]  # ((k0, k1), (j0, j1), (i0, i1)) voxels, end exclusive
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ATTRIBUTE = "DiffSeg."
LABELS = ATTRIBUTE + "Labels"
PART = 1 << 17  # numbers of 64 bits that are compared at once
VOLUME_ROLE = "DiffSeg.Volume"  # of a segmentation, or a region placed for one: the volume that it was made on


def check_volume(volumeNode: Any) -> None:
    """Raise InputError with one sentence for a node that is no image with one value per voxel."""
    if volumeNode is None:
        raise InputError(_("Choose an input volume first."))
    name, kind = volumeNode.GetName(), volumeNode.GetClassName()
    if kind == "vtkMRMLLabelMapVolumeNode":
        raise InputError(_("{name} is a label map; choose the image that it was drawn on.").format(name=name))
    if kind != "vtkMRMLScalarVolumeNode":
        text = _("{name} is a {kind}; a volume with one value per voxel is needed.")
        raise InputError(text.format(name=name, kind=kind.removeprefix("vtkMRML")))
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise InputError(_("{name} holds no voxels; load its image again.").format(name=name))
    if image.GetNumberOfScalarComponents() != 1:
        text = _("{name} has {count} values per voxel; one is needed.")
        raise InputError(text.format(name=name, count=image.GetNumberOfScalarComponents()))


def check_extent(volumeNode: Any, dims: int, box: Box | None = None) -> None:
    """Raise InputError where a model of 3D volumes would get a single slice, or one of single slices a volume.

    box: the part that the model sees, see roi.box_of.
    """
    shape = [high - low for low, high in box] if box else list(volumeNode.GetImageData().GetDimensions()[::-1])
    what = volumeNode.GetName()
    if box:
        what = _("The region of interest in {name}").format(name=what)
    if dims == 3 and min(shape) < 2:
        raise InputError(_("{what} is a single slice; this model needs a 3D volume.").format(what=what))
    if dims == 2 and min(shape) > 1:
        text = _(
            "{what} has {count} slices; this model takes a single one: place a region of interest that is one slice "
            "thick."
        )
        raise InputError(text.format(what=what, count=min(shape)))


def volume_array(volumeNode: Any) -> np.ndarray:
    """(K, J, I), a view of the node's voxels."""
    array: np.ndarray = slicer.util.arrayFromVolume(volumeNode)
    return array


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


def grid_of(volumeNode: Any) -> tuple[Any, ...]:
    """Equal for the same voxels in the same place: dimensions and the numbers of the matrix."""
    image = volumeNode.GetImageData()
    dimensions = tuple(image.GetDimensions()) if image is not None else ()
    return dimensions, *ijk_to_lps(volumeNode).ravel().tolist()


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
        if slicer.mrmlScene.GetFirstNodeByName(name) is None:
            node.SetName(name)  # free again; the scene would go on numbering
        node.CreateDefaultDisplayNodes()
        node.SetAttribute(ATTRIBUTE + "Key", key)
        node.SetNodeReferenceID(VOLUME_ROLE, volumeNode.GetID())
    if node.GetAttribute(LABELS) != label_table(labels):
        node.GetSegmentation().RemoveAllSegments()
        node.SetAttribute(LABELS, label_table(labels))
    prepare_segmentation(node, volumeNode, labels)
    return node


def label_table(labels: Sequence[Label]) -> str:
    """What a result's attribute says of the labels that its segments were made for."""
    return json.dumps([label.to_json() for label in labels])


def keeps_segments(node: Any, labels: Sequence[Label]) -> bool:
    """Whether a mask of these labels can be written into a node without removing or renumbering a segment."""
    segments = [node.GetSegmentation().GetSegment(segment_id(label)) for label in labels]
    if any(s is None or s.GetLabelValue() != label.value for s, label in zip(segments, labels, strict=True)):
        return False
    return node.GetAttribute(LABELS) in (None, label_table(labels))


def prepare_segmentation(node: Any, volumeNode: Any, labels: Sequence[Label]) -> None:
    """Give a segmentation the volume's geometry, transform and place, and the segments that it lacks."""
    # the transform first: the reference geometry is taken in the segmentation's own space
    if node.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    segmentation = node.GetSegmentation()
    images = [segmentation.GetSegment(name).GetRepresentation(LABELMAP) for name in segmentation.GetSegmentIDs()]
    isMoved = any(image is not None and not lies_on(image, volumeNode) for image in images)
    if isMoved or node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is not volumeNode:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    for label in labels:
        if segmentation.GetSegment(segment_id(label)) is None:
            segmentation.AddEmptySegment(segment_id(label), label.name, label.color)
            entry = label.terminology_entry()
            if entry:
                segmentation.GetSegment(segment_id(label)).SetTerminology(entry)
    place_beside(node, volumeNode)


def segment_id(label: Label) -> str:
    """The id of a label's segment."""
    return f"Segment_{label.value}"


def write_labels(
    node: Any, mask: np.ndarray, volumeNode: Any, labels: Sequence[Label], surface: bool | None = None
) -> None:
    """Show a (K, J, I) array of label values; segments keep everything but their voxels.

    In place where the segments share one label map on the volume's grid (1 ms at 256^3, no flicker), else in a new one.
    Either drops the closed surface: it is made again if `surface`, by default where there was one. What is shown
    already costs a comparison only.
    """
    segmentation = node.GetSegmentation()
    if surface is None:
        surface = segmentation.ContainsRepresentation(SURFACE)
    found = layer(node, mask.shape, labels)
    if found is None or not lies_on(found[0], volumeNode):
        _write_new_layer(node, mask, volumeNode, labels)
    else:
        image, view = found
        stored = _stored(node, mask, labels)
        if not same(view, stored):
            view[:] = stored
            image.GetPointData().GetScalars().Modified()
            image.Modified()
    if surface and not segmentation.ContainsRepresentation(SURFACE):
        make_surface(segmentation)


def same(mask: np.ndarray, other: np.ndarray) -> bool:
    """Whether two masks hold the same voxels: eight at a time and only up to the first part that differs.

    A head takes half the time, and a quarter where a step differs from another.
    """
    areAlike = mask.shape == other.shape and mask.dtype == other.dtype and mask.nbytes % 8 == 0
    if not (areAlike and mask.flags.c_contiguous and other.flags.c_contiguous):
        return np.array_equal(mask, other)
    one, two = (each.reshape(-1).view(np.uint64) for each in (mask, other))
    parts = (slice(start, start + PART) for start in range(0, len(one), PART))
    return all(np.array_equal(one[part], two[part]) for part in parts)


def _stored(node: Any, mask: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    """A mask in the values that a node's segments have in their label map."""
    values = np.zeros(256, dtype=np.uint8)
    for label in labels:
        values[label.value] = node.GetSegmentation().GetSegment(segment_id(label)).GetLabelValue()
    wanted = [label.value for label in labels]
    return mask if values[wanted].tolist() == wanted else values[mask]


def layer(node: Any, shape: tuple[int, ...], labels: Sequence[Label]) -> tuple[Any, np.ndarray] | None:
    """The label map that the segments of `labels` share, and no other segment: image and (K, J, I) view of its voxels.

    None if there is none of this shape. Fetched anew each time: an import or an edit exchanges the image object.
    """
    segmentation = node.GetSegmentation()
    wanted = {segment_id(label) for label in labels}
    images = {name: segmentation.GetSegment(name).GetRepresentation(LABELMAP) for name in segmentation.GetSegmentIDs()}
    image = images.get(segment_id(labels[0]))
    if image is None or {name for name, other in images.items() if other is image} != wanted:
        return None
    scalars = image.GetPointData().GetScalars()
    whole = tuple(n for size in shape[::-1] for n in (0, size - 1))
    if scalars is None or image.GetExtent() != whole or segmentation.GetSourceRepresentationName() != LABELMAP:
        return None
    return image, vtk_to_numpy(scalars).reshape(shape)


def lies_on(image: Any, volumeNode: Any) -> bool:
    """Whether a label map's voxels have the directions, sizes and origin of a volume's, which may have been moved."""
    own, wanted = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(own)
    volumeNode.GetIJKToRASMatrix(wanted)
    return all(abs(own.GetElement(n // 4, n % 4) - wanted.GetElement(n // 4, n % 4)) <= 1e-3 for n in range(16))


def add_hidden(kind: str, name: str) -> Any:
    """A new node of a class that nobody is to choose or to save by itself.

    Hidden before it is added: only then the subject hierarchy makes no item of it, which a tree would show.
    """
    node = slicer.mrmlScene.CreateNodeByClass(kind)
    node.UnRegister(None)  # Python holds it now
    node.SetName(name)
    node.SetHideFromEditors(True)
    return slicer.mrmlScene.AddNode(node)


def plot_view(name: str, ownerNode: Any) -> Any:
    """The plot view node for a chart in the module's window: the only one of its name, and not one of the layout's.

    Owner and privacy are set at every call: closing the scene keeps a view of one name and takes both from it.
    """
    view = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLPlotViewNode")
    isNew = view is None
    if isNew:
        view = slicer.vtkMRMLPlotViewNode()
        view.SetLayoutName(name)  # also makes it the only one
    view.SetAndObserveParentLayoutNodeID(ownerNode.GetID())  # before it is added: the layout would take it
    view.SetDoPropagatePlotChartSelection(False)
    return slicer.mrmlScene.AddNode(view) if isNew else view


def remove(node: Any) -> None:
    """Take a node out of the scene, with its display and storage nodes, which the scene would keep."""
    for part in (node.GetDisplayNode(), node.GetStorageNode(), node):
        if part is not None:
            slicer.mrmlScene.RemoveNode(part)


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


def _write_new_layer(node: Any, mask: np.ndarray, volumeNode: Any, labels: Sequence[Label]) -> None:
    """Give the segments of `labels` one new label map on the volume's grid; other segments keep theirs."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask.shape)[:] = mask
    segmentation = node.GetSegmentation()
    if not node.SetSourceRepresentationToBinaryLabelmap():  # segments without voxels have nothing to convert
        segmentation.SetSourceRepresentationName(LABELMAP)
    for label in labels:
        segment = segmentation.GetSegment(segment_id(label))
        segment.SetLabelValue(label.value)
        segment.AddRepresentation(LABELMAP, image)
    image.Modified()  # heard by now: other representations are out of date
