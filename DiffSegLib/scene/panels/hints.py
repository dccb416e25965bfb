"""What the section that segments says of a volume that is unlike the images that a model was trained on."""

from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from DiffSegLib.models.card import Card
from DiffSegLib.scene import expectations, nodes, roi


def hints(card: Card, volumeNode: Any, hasRegion: bool, channels: Sequence[Any] = ()) -> str:
    """Sentences, or an empty text. hasRegion: the model will see a region of the volume only.

    channels: the volumes of the model's further channels. Raises InputError for a volume that it cannot take.
    """
    found = []
    if not hasRegion:
        nodes.check_extent(volumeNode, card.dims)
    names = dict(zip(card.channels, (volumeNode, *channels), strict=False))
    twice = [name for name, node in names.items() if node is not None and list(names.values()).count(node) > 1]
    if twice:
        found.append(_("The same volume is chosen for {channels}.").format(channels=", ".join(twice)))
    if not hasRegion and expectations.farLarger(card, volumeNode):
        found.append(_tooLarge(card, volumeNode))
    other = expectations.otherModality(card, volumeNode)
    if other is not None:
        found.append(_otherModality(card, other))
    frame = expectations.frameOf(volumeNode)
    if frame is not None:
        # which one it is would not stay true: nothing tells the window that the user shows another
        text = _("This volume is a sequence of {frames} frames: the one that is shown will be segmented.")
        found.append(text.format(frames=frame[1]))
    return "\n".join(found)


def _tooLarge(card: Card, volumeNode: Any) -> str:
    have = " × ".join(f"{mm:.0f}" for mm in reversed(roi.extent_mm(volumeNode, None)))
    size = " × ".join(f"{mm:.0f}" for mm in reversed(card.field_of_view))
    known = {"have": have, "model": card.name, "size": size, "anatomy": card.expects.get("anatomy", "")}
    text = _("This volume measures {have} mm; {model} was trained on {size} mm.")
    if known["anatomy"]:
        text = _("This volume measures {have} mm; {model} was trained on {size} mm ({anatomy}).")
    text += " " + _("On the whole of it the model takes long and marks wrong places.")
    if card.dims == 3:
        text += " " + _("Press Place region, drag the region onto the structure, then press Segment.")
    return text.format(**known)


def _otherModality(card: Card, other: expectations.Modality) -> str:
    known = {"model": card.name, "wanted": ", ".join(card.channels), "found": other.name}
    if other.isKnown:
        text = _("This volume is {found}; {model} was trained on {wanted}. Expect nothing useful from it.")
    elif other.name:
        text = _("Judging by its intensities this volume may be {found}; {model} was trained on {wanted}.")
    else:
        text = _(
            "{model} was trained on {wanted} in Hounsfield units, where air is far below zero; this volume has no "
            "value below zero."
        )
    return text.format(**known)
