"""What the user changed in a result is the user's: it is noticed by its voxels and never written over."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from DiffSegLib.scene.surface import LABELMAP

KEY, STEP = nodes.ATTRIBUTE + "Key", nodes.ATTRIBUTE + "Step"
WRITTEN = nodes.ATTRIBUTE + "Written"  # "<label values>:<checksums of the masks that were written>"
EDITED = nodes.ATTRIBUTE + "Edited"


def current_labels(node: Any, volumeNode: Any, labels: Sequence[Label]) -> np.ndarray | None:
    """(K, J, I) label values of a result's segments as they stand now, perhaps a view that must not be kept.

    None where they can only be the user's work: a segment of the result is gone, or two of them overlap. Segments that
    the user added are left out.
    """
    segments = [node.GetSegmentation().GetSegment(nodes.segment_id(label)) for label in labels]
    if any(segment is None for segment in segments):
        return None
    shape = nodes.volume_array(volumeNode).shape
    found = nodes.layer(node, shape, labels)
    if found is not None and all(s.GetLabelValue() == each.value for s, each in zip(segments, labels, strict=True)):
        return found[1]
    mask = np.zeros(shape, dtype=np.uint8)
    for label, segment in zip(labels, segments, strict=True):
        inside = _inside(segment, volumeNode)
        if inside is None or mask[inside].any():
            return None
        mask[inside] = label.value
    return mask


def which(node: Any, volumeNode: Any, labels: Sequence[Label], masks: Mapping[int, np.ndarray]) -> int | None:
    """The key of the mask that a node holds, voxel for voxel; None if it holds none of them."""
    now = current_labels(node, volumeNode, labels)
    if now is None:
        return None
    return next((key for key, mask in masks.items() if nodes.same(now, mask)), None)


def remember(node: Any, labels: Sequence[Label], checksums: Iterable[str]) -> None:
    """Note in the node which masks were written into it, so that a later run knows whether the user edited them."""
    node.SetAttribute(WRITTEN, note_of(labels, checksums))


def note_of(labels: Sequence[Label], checksums: Iterable[str]) -> str:
    """What a node's attribute says of the masks that were written into it."""
    values = ",".join(str(label.value) for label in labels)
    return f"{values}:{' '.join(checksums)}"


def holds_work(node: Any, volumeNode: Any, labels: Sequence[Label]) -> bool:
    """Whether masks of these labels cannot be written into a node without losing what the user did in it.

    That is so where its segments hold something else than what was noted, and where it has segments of the user's but
    other labels take the place of all. Without a note it is not known to be so.
    """
    values, _, checksums = (node.GetAttribute(WRITTEN) or "").partition(":")
    if not values:
        return False
    written = [Label(int(value), "") for value in values.split(",")]
    areReplaced = node.GetAttribute(nodes.LABELS) not in (None, nodes.label_table(labels))
    if areReplaced and node.GetSegmentation().GetNumberOfSegments() != len(written):
        return True
    now = current_labels(node, volumeNode, written)
    return now is None or checksum(now) not in checksums.split(" ")


def release(node: Any, hide: bool = False) -> Callable[[], None]:
    """Leave a node to the user: it gets a name of its own, and no later run finds it; the result takes that back."""
    names = (WRITTEN, KEY, STEP)
    former = node.GetName(), [node.GetAttribute(name) for name in names]
    display = node.GetDisplayNode() if hide else None
    shown = display.GetVisibility() if display is not None else None
    for name in names:
        node.RemoveAttribute(name)
    node.SetAttribute(EDITED, "1")
    node.SetName(slicer.mrmlScene.GenerateUniqueName(f"{node.GetName()} edited"))
    if display is not None:
        display.SetVisibility(False)

    def take_back() -> None:
        if node.GetScene() is None:
            return
        node.SetName(former[0])
        for name, value in zip(names, former[1], strict=True):
            node.SetAttribute(name, value)
        node.RemoveAttribute(EDITED)
        if display is not None:
            display.SetVisibility(shown)

    return take_back


def _inside(segment: Any, volumeNode: Any) -> np.ndarray | None:
    """(K, J, I) bool, where a segment is, whatever its label map's extent; None where that is not the volume's grid."""
    shape: tuple[int, ...] = nodes.volume_array(volumeNode).shape
    inside = np.zeros(shape, dtype=bool)
    image = segment.GetRepresentation(LABELMAP)
    if image is None or image.IsEmpty():
        return inside
    if not nodes.lies_on(image, volumeNode):
        return None
    low, high = image.GetExtent()[4::-2], [b + 1 for b in image.GetExtent()[5::-2]]
    sizes = [b - a for a, b in zip(low, high, strict=True)]
    found = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(sizes) == segment.GetLabelValue()
    both = [(max(a, 0), max(min(b, n), 0)) for a, b, n in zip(low, high, shape, strict=True)]
    part = found[tuple(slice(a - first, b - first) for (a, b), first in zip(both, low, strict=True))]
    if part.sum() != found.sum():
        return None  # the user painted beyond the volume
    inside[tuple(slice(a, b) for a, b in both)] = part
    return inside


def checksum(mask: np.ndarray) -> str:
    """Of a mask's voxels; 3 to 5 ms for a head, so that the engine sends it with each step."""
    return text_of(zlib.crc32(np.ascontiguousarray(mask, dtype=np.uint8).data))


def text_of(crc32: int) -> str:
    """A checksum as a node's attribute has it."""
    return f"{crc32:08x}"
