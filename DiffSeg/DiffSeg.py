"""DiffSeg: segments a volume in five diffusion steps and shows the mask of each.

The module is thin: the work is done by DiffSegLib's engine in a process of its own, and DiffSegLib.scene brings the
results into nodes.
"""

import sys
from pathlib import Path

import qt
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if ((_root := Path(__file__).resolve().parents[1]) / "DiffSegLib" / "__init__.py").is_file():
    # the source tree: not the library of an extension that is installed as well
    sys.path[:] = [str(_root), *(folder for folder in sys.path if folder != str(_root))]

from DiffSegLib.errors import EnvironmentProblem
from DiffSegLib.scene import sample_data
from DiffSegLib.scene.evaluation import EvaluateLogic
from DiffSegLib.scene.logic import SegmentLogic
from DiffSegLib.scene.panels.environment import EnvironmentPanel
from DiffSegLib.scene.panels.evaluate import EvaluatePanel, EvaluateParameters
from DiffSegLib.scene.panels.segment import SegmentPanel, SegmentParameters
from DiffSegLib.scene.panels.steps import StepsPanel
from DiffSegLib.scene.panels.train import TrainPanel, TrainParameters
from DiffSegLib.scene.panels.trainings import TrainingsPanel
from DiffSegLib.scene.parameters import wrapperOf
from DiffSegLib.scene.trainings import TrainLogic


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
            "press Segment, then drag the slider to see how the answer formed; steps that are kept in a saved scene "
            "can be looked at again. The work is done in a process of its own: the window stays usable, and Cancel "
            "stops within a second. No data leaves this computer. The module is made for research: what it marks must "
            "not be used for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "The method is ImgX-DiffSeg (Fu et al. 2023, MELBA 2023:016). The hippocampus model was trained on the "
            "Medical Segmentation Decathlon (Antonelli et al. 2022), CC BY-SA 4.0. The sample is a part of the MNI "
            "ICBM 152 template (Fonov et al. 2011), © Louis Collins, McConnell Brain Imaging Centre, McGill University."
        )
        slicer.app.connect("startupCompleted()", sample_data.register)


PARAMETERS = (SegmentParameters, TrainParameters, EvaluateParameters)


@parameterNodeWrapper
class DiffSegParameterNode(*PARAMETERS):
    """The module's parameters, saved with the scene; each section of the window brings its own."""


class DiffSegLogic(ScriptedLoadableModuleLogic, SegmentLogic, TrainLogic, EvaluateLogic):
    """What the console and the window call: SegmentLogic, TrainLogic and EvaluateLogic; docs/console.md shows it.

    slicer.util.getModuleLogic("DiffSeg").segment(volumeNode, model="hippocampus")
    """

    def __init__(self, client=None):
        ScriptedLoadableModuleLogic.__init__(self)
        SegmentLogic.__init__(self, client)

    def getParameterNode(self):
        """The module's typed parameters."""
        return wrapperOf(super().getParameterNode(), DiffSegParameterNode, PARAMETERS)


class DiffSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's window: its sections, and the parameter node that they follow."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.parameterNode = None
        self.panels = []

    def setup(self):
        """Build the window; cheap, and without torch."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = DiffSegLogic()  # first: Slicer's getModuleLogic looks for it whatever happens later
        self.segmentPanel = SegmentPanel(self)
        self.stepsPanel = StepsPanel(self)
        self.trainPanel = TrainPanel(self)
        self.trainingsPanel = TrainingsPanel(self)
        self.evaluatePanel = EvaluatePanel(self)
        self.environmentPanel = EnvironmentPanel(self)
        self.panels = [self.segmentPanel, self.stepsPanel, self.trainPanel, self.trainingsPanel]
        self.panels += [self.evaluatePanel, self.environmentPanel]
        for panel in self.panels:
            self.layout.addWidget(panel.root)
        self.layout.addStretch(1)
        self._volumesTimer = qt.QTimer()  # one: Slicer keeps every timer of QTimer.singleShot until it ends
        self._volumesTimer.setSingleShot(True)
        self._volumesTimer.setInterval(0)
        self._volumesTimer.connect("timeout()", self.onVolumesChanged)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()
        if getattr(self.parent, "isEntered", False):  # reloaded while it is looked at: Slicer does not enter it again
            self.tell("onEnter")

    def tell(self, what, *values):
        """Call the method `what` of every section, see Panel."""
        for panel in self.panels:
            getattr(panel, what)(*values)

    def cleanup(self):
        """Called when the application closes or the module is reloaded."""
        self.setParameterNode(None)
        self._volumesTimer.stop()
        self.tell("cleanup")
        self.removeObservers()

    def enter(self):
        """Called when the user opens the module."""
        self.initializeParameterNode()
        self.tell("onEnter")

    def exit(self):
        """Called when the user leaves the module."""
        self.tell("onExit")
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        """The scene's nodes are about to go."""
        self.tell("onSceneClosing")
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """Connect to the new scene's parameters."""
        self.tell("onSceneClosed")
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneStartImport(self, caller, event):
        """Parameters on their way in are not followed: their values may be unknown, their nodes are there later."""
        self.setParameterNode(None)

    def onSceneEndImport(self, caller, event):
        """Follow the parameters anew; nothing else tells that the nodes which they name have been found."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onNodeAdded(self, caller, event):
        """Look for volumes once what is being loaded is there whole."""
        if self.parameterNode is not None:
            self._volumesTimer.start()

    def onVolumesChanged(self):
        """See Panel."""
        self.tell("onVolumesChanged")

    def initializeParameterNode(self):
        """Make sure that a parameter node exists and is observed."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        """Follow another parameter node, or none."""
        if self.parameterNode is not None:
            node = self.parameterNode.parameterNode
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.tell("disconnectParameters", self.parameterNode)
        self.parameterNode = parameterNode
        if parameterNode is not None:
            self.tell("connectParameters", parameterNode)
            node = parameterNode.parameterNode
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)

    def onParametersModified(self, caller, event):
        """A parameter changed."""
        self.tell("updateFromParameters")

    def onReload(self):
        """Reload the library's files too, as a developer expects of the Reload button."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "DiffSegLib"]:
            if name not in ("DiffSegLib.scene.process", "DiffSegLib.scene.parameters"):  # hold what must outlive it
                del sys.modules[name]
        super().onReload()


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
        try:
            result = DiffSegLogic().segment(volume, keepSteps=True)
        except EnvironmentProblem as problem:  # as on a build machine, where nothing may be installed
            self.delayDisplay(f"Skipped: {problem}")
            return
        assert len(result.steps) == 5 and len(result.masks) == 5
        assert result.mask.shape == slicer.util.arrayFromVolume(volume).shape
        assert result.node.GetSegmentation().GetNumberOfSegments() == len(result.labels)
        self.delayDisplay("Test passed")
