"""What the section that segments chooses for its user, and what it calls the choices that it leaves."""

from typing import Any

import slicer
import slicer.util
from slicer.i18n import tr as _

from DiffSegLib.jobs import DEVICES, SAMPLERS
from DiffSegLib.presets import PRESETS
from DiffSegLib.scene.edits import KEY


def chooseVolume(parameters: Any) -> None:
    """Take the scene's first scalar volume, but no uncertainty of an answer, where none is chosen."""
    if not parameters.inputVolume:
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            isPlain = node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetHideFromEditors()
            if isPlain and node.GetImageData() is not None and node.GetAttribute(KEY) is None:
                parameters.inputVolume = node
                return


def nameChoices(ui: Any) -> None:
    """Words for the samplers and devices; the parameter node goes by their place in the list."""
    samplers = {"ddim": _("DDIM (the usual one)"), "ddpm": _("DDPM (new noise at each step)")}
    devices = {"auto": _("automatic"), "cpu": _("processor"), "cuda": _("graphics card (CUDA)")}
    for box, texts, order in ((ui.samplerComboBox, samplers, SAMPLERS), (ui.deviceComboBox, devices, DEVICES)):
        for number, name in enumerate(order):
            box.setItemText(number, texts[name])


def nameTraining(ui: Any) -> None:
    """Words for the presets of a training, in the order of PRESETS, and for what its budget counts."""
    known = {"default": _("Standard"), "fast": _("Fast (a smaller network)")}
    for number, name in enumerate(PRESETS):
        text = known.get(name) or _("As in the ImgX papers ({name})").format(name=name)
        ui.trainPresetComboBox.setItemText(number, text)
    for number, text in enumerate((_("minutes"), _("iterations"))):
        ui.trainBudgetComboBox.setItemText(number, text)
