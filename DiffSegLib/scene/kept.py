"""A run read back from what a scene kept of it: the nodes of its steps, or the sequence that holds them."""

import json
from typing import Any

import numpy as np
import slicer
import slicer.util

from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label
from DiffSegLib.scene import edits, nodes, steps, uncertainty
from DiffSegLib.scene.changes import compare, volumes_ml
from DiffSegLib.scene.dataset import drawn_on
from DiffSegLib.scene.logic import Segmentation


def read(volumeNode: Any) -> Segmentation | None:
    """The run of the newest answer on a volume whose steps the scene holds voxel for voxel as they were drawn, or None.

    Steps of an earlier answer, and those that the user edited, are not taken for the answer's: their checksums differ.
    What no node holds stays empty: the noise of the steps, and warnings.
    """
    if volumeNode.GetImageData() is None:
        return None
    answers = [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if not steps.is_kept(node)]
    return next((run for node in reversed(answers) if (run := _run_of(node, volumeNode)) is not None), None)


def _run_of(answer: Any, volumeNode: Any) -> Segmentation | None:
    _, _, noted = (answer.GetAttribute(edits.WRITTEN) or "").partition(":")
    checksums = noted.split()
    volume = answer.GetNodeReference(nodes.VOLUME_ROLE) or drawn_on(answer)
    if not checksums or volume is not volumeNode:
        return None
    run = Segmentation("", volumeNode, node=answer, checksums=checksums, stepCount=len(checksums), finished=True)
    made = [nodes.find_segmentation(volumeNode, f"{steps.key_of(run)}|{n + 1}") for n in range(len(checksums))]
    sequence = steps.find_result("vtkMRMLSequenceNode", volumeNode, f"{steps.key_of(run)}|sequence")
    items = [sequence.GetNthDataNode(n) for n in range(sequence.GetNumberOfDataNodes())] if sequence is not None else []
    for found in (made, items):
        masks = _masks(found, run)
        if masks:
            run.masks, run.mask, run.labels = masks, masks[-1], _labels(found[0])
            run.steps = made if found is made else []
            run.volumesMl = _volumes_ml(run, masks[-1])
            run.provenance = _provenance(answer)
            run.uncertaintyNode, run.uncertainty = uncertainty.read(run)
            return run
    return None


def _volumes_ml(run: Segmentation, mask: np.ndarray) -> dict[str, float]:
    """Name -> ml of a mask's structures, as the engine says them of a new answer."""
    sizes = volumes_ml(run, compare(mask, None))
    return {label.name: sizes[label.value] for label in run.labels}


def _masks(found: list[Any], run: Segmentation) -> list[np.ndarray]:
    """(K, J, I) label values of each step; none at all where one is missing or is another than the run's."""
    masks: list[np.ndarray] = []
    if len(found) != len(run.checksums):
        return masks
    for node, checksum in zip(found, run.checksums, strict=True):
        labels = _labels(node)
        mask = edits.current_labels(node, run.volume, labels) if labels else None
        if mask is None or edits.checksum(mask) != checksum:
            return []
        masks.append(mask.copy())
    return masks


def _labels(node: Any) -> tuple[Label, ...]:
    try:
        return tuple(Label.from_json(each, "") for each in json.loads(node.GetAttribute(nodes.LABELS)))
    except (InputError, AttributeError, TypeError, ValueError):  # no node, no note, or one of another version
        return ()


def _provenance(answer: Any) -> dict[str, Any]:
    """Of the answer, also where the scene was saved with another step in its node."""
    try:
        known = json.loads(answer.GetAttribute(nodes.ATTRIBUTE + "Json") or "{}")
    except ValueError:
        return {}
    return {key: value for key, value in known.items() if key != "step"} if isinstance(known, dict) else {}
