"""DiffSeg: segments a volume in five diffusion steps and shows the mask of each.

The module is thin: the work is done by DiffSegLib's engine in a process of its own, and DiffSegLib.scene brings the
results into nodes.
"""

import sys
from pathlib import Path
from typing import Annotated

import qt
import slicer
import slicer.util
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

try:
    import DiffSegLib  # noqa: F401 - to see whether it can be found
except ModuleNotFoundError:  # running from the source tree
    _parent = Path(__file__).resolve().parent.parent
    if not (_parent / "DiffSegLib" / "__init__.py").is_file():
        raise
    sys.path.append(str(_parent))

from DiffSegLib.errors import Cancelled, DiffSegError
from DiffSegLib.models.shipped import find, read_card, shipped
from DiffSegLib.scene.logic import SegmentLogic

CHECK_INTERVAL = 200  # ms; how often a cancel's grace is looked at while a job runs


class DiffSeg(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DiffSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations"]
        self.parent.contributors = ["DiffSeg team"]
        self.parent.helpText = _(
            "Segments a volume in a few diffusion steps and shows the mask of each step. Choose a volume and a model, "
            "press Segment, then drag the slider to see how the answer formed. The work is done in a process of its "
            "own: the window stays usable, and Cancel stops within a second. No data leaves this computer."
        )
        self.parent.acknowledgementText = _(
            "The method is ImgX-DiffSeg (Fu et al. 2023, MELBA 2023:016). The hippocampus model was trained on the "
            "Medical Segmentation Decathlon (Antonelli et al. 2022), CC BY-SA 4.0."
        )


@parameterNodeWrapper
class DiffSegParameterNode:
    """The module's parameters, saved with the scene."""

    inputVolume: vtkMRMLScalarVolumeNode
    model: str = "hippocampus"
    steps: Annotated[int, WithinRange(1, 1000)] = 5
    sampler: Annotated[str, Choice(["ddim", "ddpm"])] = "ddim"
    seed: Annotated[int, WithinRange(0, 2147483647)] = 0
    keepSteps: bool = True


class DiffSegLogic(ScriptedLoadableModuleLogic, SegmentLogic):
    """What the console and the window call; see SegmentLogic.segment.

    slicer.util.getModuleLogic("DiffSeg").segment(volumeNode, model="hippocampus")
    """

    def __init__(self, client=None):
        ScriptedLoadableModuleLogic.__init__(self)
        SegmentLogic.__init__(self, client)

    def getParameterNode(self):
        """The module's typed parameters."""
        return DiffSegParameterNode(super().getParameterNode())


class DiffSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's window; holds no state beyond the run that it shows."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._run = None
        self._open = True

    def setup(self):
        """Build the window; cheap, and without torch."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = DiffSegLogic()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DiffSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._timer = qt.QTimer()
        self._timer.setInterval(CHECK_INTERVAL)
        self._connect(self._timer, "timeout()", self.onTimer)
        self._fillModels()
        self._connect(self.ui.modelComboBox, "currentIndexChanged(int)", self.onModelChosen)
        self._connect(self.ui.browseButton, "clicked(bool)", self.onBrowse)
        self._connect(self.ui.applyButton, "clicked(bool)", self.onApply)
        self._connect(self.ui.stepSlider, "valueChanged(int)", self.onStepSlider)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.initializeParameterNode()
        self._showIdle(_("Choose a volume and press Segment."))

    def cleanup(self):
        """Called when the application closes or the module is reloaded; a run that is under way has no window left."""
        if self._run is not None and not self._run.finished:
            self.logic.cancel(self._run)
        self._open = False
        self._timer.stop()
        self.removeObservers()

    def enter(self):
        """Called when the user opens the module."""
        self.initializeParameterNode()

    def exit(self):
        """Called when the user leaves the module."""
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        """The nodes of a run end with their scene."""
        if self._run is not None and not self._run.finished:
            self.logic.cancel(self._run)
        self._run = None
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """Connect to the new scene's parameters."""
        self._showIdle(_("Choose a volume and press Segment."))
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Make sure that a parameter node exists and is observed; the first volume is chosen for the user."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None and first.GetClassName() == "vtkMRMLScalarVolumeNode":
                self._parameterNode.inputVolume = first

    def setParameterNode(self, parameterNode):
        """Observe another parameter node, or none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, _modified(), self._updateFromParameters)
        self._parameterNode = parameterNode
        if self._parameterNode is not None:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, _modified(), self._updateFromParameters)
            self._updateFromParameters()

    def onModelChosen(self, index):
        """A model was chosen in the list."""
        if self._parameterNode is not None and index >= 0:
            self._parameterNode.model = self.ui.modelComboBox.itemData(index)

    def onBrowse(self):
        """Choose a model file of one's own."""
        title, kinds = _("Choose a DiffSeg model"), _("DiffSeg model") + " (*.safetensors)"
        path = qt.QFileDialog.getOpenFileName(None, title, "", kinds)
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.useModelFile(path)

    def useModelFile(self, path):
        """Add a model file to the list and choose it; a file that is no model is said in the status line."""
        try:
            card = read_card(find(path))
        except DiffSegError as problem:
            self._say(str(problem), isError=True)
            return
        if self.ui.modelComboBox.findData(path) < 0:
            self.ui.modelComboBox.addItem(_("{name} (own file)").format(name=card.name), path)
        self.ui.modelComboBox.setCurrentIndex(self.ui.modelComboBox.findData(path))

    def onApply(self):
        """Segment, or cancel what runs."""
        if self._run is not None and not self._run.finished:
            self.ui.applyButton.enabled = False
            self._say(_("Cancelling…"))
            self.logic.cancel(self._run)
            return
        node = self._parameterNode
        try:
            self._showRunning()
            self._run = self.logic.segment(
                node.inputVolume,
                model=node.model,
                steps=node.steps,
                sampler=node.sampler,
                seed=node.seed,
                keepSteps=node.keepSteps,
                onEvent=self.onEvent,
                onFinished=self.onFinished,
                wait=False,
            )
        except DiffSegError as problem:
            self._run = None
            self._showIdle(str(problem), isError=True)

    def onEvent(self, event):
        """Progress of the run."""
        if self._open and event["event"] == "progress":
            self.ui.progressBar.value = int(100 * event["fraction"])
            text = _("Step {step} of {steps}, window {window} of {windows}")
            self._say(text.format(**{key: event.get(key, 1) for key in ("step", "steps", "window", "windows")}))

    def onFinished(self, run):
        """The run ended: show its result, or say why there is none."""
        if not self._open:
            return
        if run.error is not None:
            self._showIdle(str(run.error), isError=not isinstance(run.error, Cancelled))
            return
        if self._run is None:  # the scene was closed meanwhile
            return
        self._run = run
        sizes = ", ".join(f"{name} {ml:.2f} ml" for name, ml in run.volumesMl.items())
        self._showIdle(" ".join([_("Done: {sizes}.").format(sizes=sizes), *run.warnings]))
        self.ui.stepSlider.blockSignals(True)
        self.ui.stepSlider.maximum = max(len(run.masks), 1)
        self.ui.stepSlider.value = len(run.masks)
        self.ui.stepSlider.blockSignals(False)
        self.ui.stepSlider.enabled = len(run.masks) > 1
        self.ui.stepLabel.text = _("step {step} of {steps}").format(step=len(run.masks), steps=len(run.masks))

    def onStepSlider(self, step):
        """Show the mask of a step in the answer's segmentation."""
        if self._run is not None and 1 <= step <= len(self._run.masks):
            self.logic.showStep(self._run, step)
            self.ui.stepLabel.text = _("step {step} of {steps}").format(step=step, steps=len(self._run.masks))

    def onTimer(self):
        """While a run is under way, end a worker that does not heed a cancel."""
        self.logic.client.check()

    def _fillModels(self):
        self.ui.modelComboBox.clear()
        for name, path in shipped().items():
            try:
                read_card(path)
            except DiffSegError:
                continue
            self.ui.modelComboBox.addItem(name, name)

    def _updateFromParameters(self, caller=None, event=None):
        """Follow the parameters that no connector serves, and say whether Segment can be pressed."""
        if self._parameterNode is None:
            return
        index = self.ui.modelComboBox.findData(self._parameterNode.model)
        if index >= 0 and index != self.ui.modelComboBox.currentIndex:
            self.ui.modelComboBox.setCurrentIndex(index)
        if self._run is None or self._run.finished:
            self.ui.applyButton.enabled = self._parameterNode.inputVolume is not None

    def _showRunning(self):
        self.ui.applyButton.text = _("Cancel")
        self.ui.progressBar.value = 0
        self.ui.progressBar.visible = True
        self.ui.stepSlider.enabled = False
        self._say(_("The engine is starting…"))
        self._timer.start()

    def _showIdle(self, text, isError=False):
        self._timer.stop()
        self.ui.applyButton.text = _("Segment")
        self.ui.applyButton.enabled = self._parameterNode is not None and self._parameterNode.inputVolume is not None
        self.ui.progressBar.visible = False
        self._say(text, isError)

    def _say(self, text, isError=False):
        self.ui.statusLabel.text = (_("Not done: {reason}").format(reason=text)) if isError else text

    @staticmethod
    def _connect(sender, signal, slot):
        """Connect, and fail loudly: a misspelt signal only returns False."""
        if not sender.connect(signal, slot):
            raise RuntimeError(f"There is no signal {signal}.")


def _modified():
    import vtk

    return vtk.vtkCommand.ModifiedEvent


class DiffSegTest(ScriptedLoadableModuleTest):
    """The module's self-test: a synthetic volume through the whole way, in this very application."""

    def runTest(self):
        """Run it as Slicer's Reload and Test does."""
        slicer.mrmlScene.Clear(0)
        self.test_segmentGivesStepsAndAnswer()

    def test_segmentGivesStepsAndAnswer(self):
        """Five step nodes and the answer, on the volume's grid."""
        import numpy as np

        self.delayDisplay("A synthetic volume is segmented")
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "DiffSeg test")
        values = np.random.default_rng(0).normal(100.0, 20.0, (36, 48, 34)).astype(np.float32)
        slicer.util.updateVolumeFromArray(volume, values)
        result = DiffSegLogic().segment(volume)
        assert len(result.steps) == 5 and len(result.masks) == 5
        assert result.mask.shape == slicer.util.arrayFromVolume(volume).shape
        assert result.node.GetSegmentation().GetNumberOfSegments() == len(result.labels)
        self.delayDisplay("Test passed")
