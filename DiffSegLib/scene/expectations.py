"""How a volume differs from what a model was trained on: facts for hints, never a reason to refuse.

The size is compared with the card's field of view. The kind of image is known where the volume came from DICOM, else
intensities may speak for it, of CT only: air in Hounsfield units is far below zero, and there is much of it. Whether a
volume is MR cannot be seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from DiffSegLib.models.card import Card
from DiffSegLib.scene import nodes, roi
from DiffSegLib.scene.nodes import Box

MODALITY = "DICOM.Modality"  # of a series in the subject hierarchy
NAMES = {"MR": "MR", "MRI": "MR", "CT": "CT", "PT": "PT", "PET": "PT", "US": "US"}  # words in channel names -> DICOM
NAMES |= dict.fromkeys(("T1", "T1W", "T1C", "T1CE", "T1GD", "T2", "T2W", "FLAIR", "ADC", "DWI"), "MR")
SAMPLES = 100_000  # voxels that are looked at
AIR, LOWEST = -500.0, -4000.0  # HU: air lies below the first, and scanners write nothing below the second
AIR_SHARE = 0.03  # of the voxels, from which on they look like CT


@dataclass(frozen=True)
class Modality:
    """A DICOM modality (MR, CT, ...) and whether it is known or a guess from intensities.

    An empty name is the guess that the intensities are no Hounsfield units.
    """

    name: str
    isKnown: bool


def wantedModality(card: Card) -> str:
    """The DICOM modality that a model was trained on: of its card, else from the names of its channels; or empty."""
    said = str(card.expects.get("modality", ""))
    words = " ".join([said, *card.channels]).upper().replace("-", " ").replace("_", " ").split()
    return next((NAMES[word] for word in words if word in NAMES), said)


def modalityOf(volumeNode: Any) -> Modality | None:
    """What kind of image a volume is, or None where nothing tells it."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    if item:
        own = hierarchy.GetItemAttribute(item, MODALITY)
        known = own or hierarchy.GetAttributeFromItemAncestor(item, MODALITY)
        if known:
            return Modality(known, True)
    units = volumeNode.GetVoxelValueUnits()
    if units is not None and units.GetCodeValue() == "[hnsf'U]":  # UCUM's Hounsfield unit
        return Modality("CT", True)
    values = _sample(volumeNode)
    isAir = values < AIR
    return Modality("CT", False) if values.min() >= LOWEST and isAir.mean() > AIR_SHARE else None


def _sample(volumeNode: Any) -> np.ndarray:
    """Intensities from all over the volume, (n,)."""
    array = nodes.volume_array(volumeNode)
    return array.ravel()[:: max(1, array.size // SAMPLES)]


def otherModality(card: Card, volumeNode: Any) -> Modality | None:
    """The volume's kind of image where it is another than the model was trained on, else None."""
    wanted, found = wantedModality(card), modalityOf(volumeNode)
    if found is not None:
        return found if wanted and found.name != wanted else None
    return Modality("", False) if wanted == "CT" and not _sample(volumeNode).min() < 0 else None


def farLarger(card: Card, volumeNode: Any, box: Box | None = None) -> bool:
    """Whether a volume, or a box of it, is far larger than what the model was trained on."""
    return card.is_far_smaller_than(roi.extent_mm(volumeNode, box))


def frameOf(volumeNode: Any) -> tuple[int, int] | None:
    """(number of the frame from 1, frames) of a volume that shows one frame of a sequence, else None."""
    module = getattr(slicer.modules, "sequences", None)
    browser = module.logic().GetFirstBrowserNodeForProxyNode(volumeNode) if module is not None else None
    if browser is None:
        return None
    return int(browser.GetSelectedItemNumber()) + 1, int(browser.GetNumberOfItems())
