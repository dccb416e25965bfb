"""Volumes and segmentations of the scene as a labelled data set in a folder, in the layout of the Decathlon.

A case is a segmentation with the volume that it was drawn on. Each label keeps one value over all cases, found by the
segment's name in any case of letters; names, colours and terminology go into `segments.json` for the model's card.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label
from DiffSegLib.scene import nodes
from DiffSegLib.scene.steps import is_kept
from DiffSegLib.scene.words import tr as _
from DiffSegLib.whole_files import write_text

LABELMAP = "Binary labelmap"
SEGMENTS_FILE = "segments.json"
TISSUE = "85756007"  # the type of a segment for which nobody has chosen one
Pair = tuple[Any, Any]  # volume node, segmentation node


@dataclass
class SceneData:
    """Of the `pairs` asked for, the `cases` that can be written, their labels, and what is wrong with the others.

    segments[n]: label value -> segment id of case n.
    """

    pairs: list[Pair] = field(default_factory=list)
    cases: list[Pair] = field(default_factory=list)
    segments: list[dict[int, str]] = field(default_factory=list)
    labels: tuple[Label, ...] = ()
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def drawn_on(segmentationNode: Any) -> Any:
    """The volume that gives a segmentation its grid, or None."""
    role = segmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentationNode.GetNodeReference(role) or segmentationNode.GetNodeReference(nodes.VOLUME_ROLE)


def pairs_of_scene() -> list[Pair]:
    """Every segmentation of the scene with its volume, which may be None; kept masks of single steps are left out."""
    found = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [(drawn_on(node), node) for node in found if not is_kept(node)]


def segment_names(segmentationNode: Any) -> list[str]:
    """In the order of the segmentation."""
    return [name for name, _id in _segments(segmentationNode)]


def problem_of(pair: Pair) -> str:
    """One sentence on why a pair alone is no case, or empty."""
    volume, node = pair
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return _("A case needs a volume and a segmentation.")
    names = [name for name, _id in _segments(node)]
    if not names:
        return _("{name}: has no segments.").format(name=node.GetName())
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        text = _("{name}: has two segments called {segment}; rename one.")
        return text.format(name=node.GetName(), segment=twice[0])
    if volume is None:
        text = _("{name}: names no volume that it was drawn on; choose its source volume in Segment Editor.")
        return text.format(name=node.GetName())
    try:
        nodes.check_volume(volume)
    except InputError as problem:
        return f"{node.GetName()}: {problem}"
    return ""


def check(pairs: Sequence[Pair]) -> SceneData:
    """What can be written of `pairs`, and all that is wrong with them, a sentence each.

    The names that most cases have in common are the labels; a case with others cannot be used.
    """
    data = SceneData(list(pairs))
    good: list[Pair] = []
    for volume, node in [(volume or (node and drawn_on(node)), node) for volume, node in pairs]:
        other = next((found[1] for found in good if found[0] is volume), None)
        problem = problem_of((volume, node))
        if not problem and other is not None:
            text = _("{name}: was drawn on {volume} as {other} was; choose one of them.")
            problem = text.format(name=node.GetName(), volume=volume.GetName(), other=other.GetName())
        if problem:
            data.problems.append(problem)
        else:
            good.append((volume, node))
    if good:
        _agree(data, good)
    if len(pairs) < 2:
        one = _("One case is chosen; at least two are needed, one to validate on.")
        data.problems.append(one if pairs else _("No case is chosen; at least two are needed, one to validate on."))
    return data


def export(data: SceneData, folder: Path, name: str) -> Iterator[int]:
    """Write the cases into `folder`, one at each turn of the iterator, which gives how many are done.

    The voxels keep their type, the grid is the volume's own; segments on another grid or under another transform are
    resampled to it (nearest neighbour). Raises InputError where something cannot be written or converted.
    """
    import SimpleITK as sitk

    taken: list[str] = []
    for (volume, node), segments in zip(data.cases, data.segments, strict=True):
        if volume.GetScene() is None or node.GetScene() is None:
            raise InputError(_("A volume or segmentation was removed from the scene meanwhile; check again."))
        case = _case_name(volume.GetName(), taken)
        taken.append(case)
        mask, overlapping = labels_on_grid(volume, node, segments)
        for first, second in overlapping:
            names = {label.value: label.name for label in data.labels}
            text = _("{name}: where {first} and {second} overlap, {second} is learnt.")
            data.warnings.append(text.format(name=node.GetName(), first=names[first], second=names[second]))
        for part, array in (("imagesTr", nodes.volume_array(volume)), ("labelsTr", mask)):
            path = folder / part / f"{case}.nrrd"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                sitk.WriteImage(_image(array, nodes.ijk_to_lps(volume)), str(path))
            except (OSError, RuntimeError) as problem:
                reason = getattr(problem, "strerror", None) or str(problem).strip().splitlines()[-1]
                raise InputError(_("{path}: cannot be written ({reason}).").format(path=path, reason=reason)) from None
        yield len(taken)
    description = {
        "name": name,
        "description": "Written by DiffSeg from a Slicer scene.",
        "modality": {"0": _modality([volume for volume, _node in data.cases])},
        "labels": {"0": "background"} | {str(label.value): label.name for label in data.labels},
        "training": [{"image": f"./imagesTr/{case}.nrrd", "label": f"./labelsTr/{case}.nrrd"} for case in taken],
    }
    write_text(folder / SEGMENTS_FILE, json.dumps([label.to_json() for label in data.labels], indent=1))
    write_text(folder / "dataset.json", json.dumps(description, indent=1))


def labels_on_grid(
    volumeNode: Any, segmentationNode: Any, segments: dict[int, str]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """(K, J, I) uint8 of label values on the volume's grid, and the pairs of values that overlap (the later one is
    kept). segments: label value -> id. Nothing in the scene changes; parent transforms of both nodes are followed.
    """
    grid, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    grid.SetExtent(volumeNode.GetImageData().GetExtent())
    grid.SetGeometryFromImageToWorldMatrix(matrix)
    ways = (segmentationNode.GetParentTransformNode(), volumeNode.GetParentTransformNode())
    transform = None
    if ways[0] is not ways[1]:
        transform = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(*ways, transform)
    mask = np.zeros(nodes.volume_array(volumeNode).shape, dtype=np.uint8)
    overlapping: set[tuple[int, int]] = set()
    layers: list[tuple[Any, Any]] = []  # label maps that several segments share, and each on the grid
    for value, identifier in segments.items():
        segment = segmentationNode.GetSegmentation().GetSegment(identifier)
        image, own = segment.GetRepresentation(LABELMAP), segment.GetLabelValue()
        if image is None:  # a surface: converted aside, with a label map of its own
            image, own = slicer.vtkOrientedImageData(), 1
            logic = slicer.modules.segmentations.logic()
            if not logic.GetSegmentRepresentation(segmentationNode, identifier, LABELMAP, image, False):
                text = _("{name}: {segment} cannot be made a label map.")
                raise InputError(text.format(name=segmentationNode.GetName(), segment=segment.GetName()))
        moved = next((found for layer, found in layers if layer is image), None)
        if moved is None:
            moved = slicer.vtkOrientedImageData()
            resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
            if not resample(image, grid, moved, False, False, transform):
                text = _("{name}: cannot be laid on the grid of {volume}.")
                raise InputError(text.format(name=segmentationNode.GetName(), volume=volumeNode.GetName()))
            layers.append((image, moved))
        here = vtk_to_numpy(moved.GetPointData().GetScalars()).reshape(mask.shape) == own
        overlapping |= {(int(other), value) for other in np.unique(mask[here]) if other}
        mask[here] = value
    return mask, sorted(overlapping)


def state_of(pairs: Sequence[Pair]) -> Any:
    """Changes with whatever of the cases would be written otherwise."""
    return [_state(node) for pair in pairs for node in pair if node is not None and node.GetScene() is not None]


def _agree(data: SceneData, good: list[Pair]) -> None:
    """Labels from the names that most cases share; the other cases are told as problems."""
    spelt = [{name.casefold(): identifier for name, identifier in _segments(node)} for _volume, node in good]
    counts = Counter(frozenset(names) for names in spelt)
    common = max(counts, key=lambda names: (counts[names], len(names)))
    model = next(n for n, names in enumerate(spelt) if set(names) == common)
    first = good[model][1].GetSegmentation()
    data.labels = tuple(_label(n, first.GetSegment(found)) for n, found in enumerate(spelt[model].values(), start=1))
    if len(data.labels) > 255:
        text = _("{name}: has {count} segments; 255 can be told apart.")
        data.problems.append(text.format(name=good[model][1].GetName(), count=len(data.labels)))
        return
    wanted = ", ".join(label.name for label in data.labels)
    for pair, names in zip(good, spelt, strict=True):
        missing = [label.name for label in data.labels if label.name.casefold() not in names]
        if set(names) == common:
            data.cases.append(pair)
            data.segments.append({label.value: names[label.name.casefold()] for label in data.labels})
        elif set(names) < common:
            text = _("{name}: lacks the segment {segments}; draw it, or add it empty where there is nothing to draw.")
            data.problems.append(text.format(name=pair[1].GetName(), segments=", ".join(missing)))
        else:
            found = ", ".join(name for name, _id in _segments(pair[1]))
            text = _("{name}: has the segments {found}; the other cases have {wanted}. Name them alike.")
            data.problems.append(text.format(name=pair[1].GetName(), found=found, wanted=wanted))


def _segments(node: Any) -> list[tuple[str, str]]:
    """(name, id) of every segment."""
    found = node.GetSegmentation()
    return [(found.GetSegment(name).GetName().strip(), name) for name in found.GetSegmentIDs()]


def _label(value: int, segment: Any) -> Label:
    color = tuple(min(max(float(x), 0.0), 1.0) for x in segment.GetColor())
    parts = [tuple(part.split("^")) for part in str(segment.GetTerminology() or "").split("~")]
    codes = {}
    if len(parts) >= 4 and all(len(part) == 3 for part in parts[1:4]) and parts[2][1] not in ("", TISSUE):
        codes = {key: part for key, part in zip(("category", "type", "modifier"), parts[1:4], strict=True) if part[1]}
    return Label(value, segment.GetName().strip(), color, **codes)  # type: ignore[arg-type]


def _case_name(name: str, taken: Sequence[str]) -> str:
    """A file name from a node's: no two are equal, on systems that do not tell upper from lower case either."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_") or "case"
    known = {other.casefold() for other in taken}
    return next(c for n in range(len(taken) + 2) if (c := f"{plain}_{n}" if n else plain).casefold() not in known)


def _image(array: np.ndarray, affine: np.ndarray) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _modality(volumes: Sequence[Any]) -> str:
    """CT where every volume came from a CT series, which decides how its values are normalised; else image."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is None:
        return "image"
    found = {str(hierarchy.GetItemAttribute(hierarchy.GetItemByDataNode(node), "DICOM.Modality")) for node in volumes}
    return found.pop() if len(found) == 1 and found != {""} else "image"


def _state(node: Any) -> Any:
    transform = node.GetParentTransformNode()
    place = (node.GetID(), transform and (transform.GetID(), transform.GetTransformToWorldMTime()))
    if not node.IsA("vtkMRMLSegmentationNode"):
        image = node.GetImageData()
        return place, image and image.GetMTime(), nodes.ijk_to_lps(node).tolist()
    found = []
    for name, identifier in _segments(node):
        segment = node.GetSegmentation().GetSegment(identifier)
        image = segment.GetRepresentation(LABELMAP)
        found.append((name, segment.GetColor(), segment.GetTerminology(), image and image.GetMTime()))
    return place, found
