"""What was reset when a scene came with values that this version does not know, in one sentence."""

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _


def resetText(resets: Mapping[str, str], wrapper: Any) -> str:
    """The sentence, or an empty text. resets: of parameters.takeResets; wrapper: has the values that are there now."""
    changes = [
        _("{title} “{former}” is now “{value}”").format(title=_title(name), former=text, value=getattr(wrapper, name))
        for name, text in resets.items()
    ]
    if not changes:
        return ""
    return _("The scene has settings that this version does not know: {changes}.").format(changes="; ".join(changes))


def _title(name: str) -> str:
    """As the form calls it; the name of one that no form shows by itself."""
    titles = {
        "steps": _("Steps"),
        "sampler": _("Sampler"),
        "samples": _("Number of samples"),
        "seed": _("Seed"),
        "device": _("Compute on"),
        "trainPreset": _("Preset of the training"),
        "trainBudget": _("Train for"),
        "trainAmount": _("Train for"),
        "trainBatch": _("Batch of the training"),
        "trainSeed": _("Seed of the training"),
        "trainMemory": _("Memory of the training"),
        "evaluateTolerance": _("Surface tolerance"),
    }
    return titles.get(name, name)
