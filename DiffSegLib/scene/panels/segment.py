"""The section that segments: volume, model, settings, one button that becomes Cancel, progress."""

from typing import Annotated, Any

import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError
from DiffSegLib.models.shipped import available, find, read_card
from DiffSegLib.scene.logic import Segmentation
from DiffSegLib.scene.panels.panel import Panel

CHECK_INTERVAL = 200  # ms; how often a cancel's grace is looked at while a job runs


class SegmentParameters:
    """Saved with the scene."""

    inputVolume: vtkMRMLScalarVolumeNode
    model: str = "hippocampus"
    steps: Annotated[int, WithinRange(1, 1000)] = 5
    sampler: Annotated[str, Choice(["ddim", "ddpm"])] = "ddim"
    seed: Annotated[int, WithinRange(0, 2147483647)] = 0
    keepSteps: bool = True


class SegmentPanel(Panel):
    """Starts and cancels runs and tells the other sections of them."""

    form = "Segment"

    def setup(self) -> None:
        """See Panel."""
        self.run: Segmentation | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(CHECK_INTERVAL)
        self.connect(self._timer, "timeout()", self.onTimer)
        self._fillModels()
        self.connect(self.ui.modelComboBox, "currentIndexChanged(int)", self.onModelChosen)
        self.connect(self.ui.browseButton, "clicked(bool)", self.onBrowse)
        self.connect(self.ui.applyButton, "clicked(bool)", self.onApply)
        self._showIdle(_("Choose a volume and press Segment."))

    def cleanup(self) -> None:
        """See Panel; a run that is under way has no window left."""
        self._cancelRun()
        self._timer.stop()
        super().cleanup()

    def onSceneClosing(self) -> None:
        """See Panel; the nodes of a run end with their scene."""
        self._cancelRun()
        self.run = None

    def onSceneClosed(self) -> None:
        """See Panel."""
        self._showIdle(_("Choose a volume and press Segment."))

    def connectParameters(self, node: Any) -> None:
        """See Panel; the first volume is chosen for the user."""
        super().connectParameters(node)
        if not node.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None and first.GetClassName() == "vtkMRMLScalarVolumeNode":
                node.inputVolume = first

    def updateFromParameters(self) -> None:
        """See Panel; also says whether Segment can be pressed."""
        if self.parameters is None:
            return
        index = self.ui.modelComboBox.findData(self.parameters.model)
        if index >= 0 and index != self.ui.modelComboBox.currentIndex:
            self.ui.modelComboBox.setCurrentIndex(index)
        if self.run is None or self.run.finished:
            self.ui.applyButton.enabled = self.parameters.inputVolume is not None

    def onModelChosen(self, index: int) -> None:
        """A model was chosen in the list."""
        if self.parameters is not None and index >= 0:
            self.parameters.model = self.ui.modelComboBox.itemData(index)

    def onBrowse(self) -> None:
        """Choose a model file of one's own."""
        title, kinds = _("Choose a DiffSeg model"), _("DiffSeg model") + " (*.safetensors)"
        path = qt.QFileDialog.getOpenFileName(None, title, "", kinds)
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.useModelFile(path)

    def useModelFile(self, path: str) -> None:
        """Add a model file to the list and choose it; a file that is no model is said in the status line."""
        try:
            card = read_card(find(path))
        except DiffSegError as problem:
            self.say(str(problem), isError=True)
            return
        if self.ui.modelComboBox.findData(path) < 0:
            self.ui.modelComboBox.addItem(_("{name} (own file)").format(name=card.name), path)
        self.ui.modelComboBox.setCurrentIndex(self.ui.modelComboBox.findData(path))

    def onModelsChanged(self, path: str | None = None) -> None:
        """See Panel; a new model is listed, and the chosen one stays chosen."""
        self._fillModels()

    def onModelWanted(self, path: str) -> None:
        """See Panel."""
        index = self.ui.modelComboBox.findData({str(file): name for name, file in available().items()}.get(path))
        if index >= 0:
            self.ui.modelComboBox.setCurrentIndex(index)
        else:
            self.useModelFile(path)

    def onApply(self) -> None:
        """Segment, or cancel what runs."""
        if self.run is not None and not self.run.finished:
            self.ui.applyButton.enabled = False
            self.say(_("Cancelling…"))
            self.logic.cancel(self.run)
            return
        node = self.parameters
        try:
            self._showRunning()
            self.run = self.logic.segment(
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
            self.run = None
            self._showIdle(str(problem), isError=True)
            return
        self.window.tell("onRunStarted", self.run)

    def onEvent(self, event: events.Event) -> None:
        """Progress of the run."""
        if not self.open:
            return
        if event["event"] == "progress":
            self.ui.progressBar.value = int(100 * event["fraction"])
            text = _("Step {step} of {steps}, window {window} of {windows}")
            self.say(text.format(**{key: event.get(key, 1) for key in ("step", "steps", "window", "windows")}))
        elif event["event"] == "step" and self.run is not None:
            self.window.tell("onRunStep", self.run)

    def onFinished(self, run: Segmentation) -> None:
        """The run ended: show its result, or say why there is none."""
        if not self.open:
            return
        if run.error is not None:
            self._showIdle(str(run.error), isError=not isinstance(run.error, Cancelled))
        elif self.run is None:  # the scene was closed meanwhile
            return
        else:
            self.run = run
            sizes = ", ".join(f"{name} {ml:.2f} ml" for name, ml in run.volumesMl.items())
            self._showIdle(" ".join([_("Done: {sizes}.").format(sizes=sizes), *run.warnings]))
        self.window.tell("onRunFinished", run)

    def onTimer(self) -> None:
        """While a run is under way, end a worker that does not heed a cancel."""
        self.logic.client.check()

    def say(self, text: str, isError: bool = False) -> None:
        """Write the status line."""
        self.ui.statusLabel.text = _("Not done: {reason}").format(reason=text) if isError else text

    def _cancelRun(self) -> None:
        if self.run is not None and not self.run.finished:
            self.logic.cancel(self.run)

    def _fillModels(self) -> None:
        for name, path in available().items():
            try:
                read_card(path)
            except DiffSegError:
                continue
            if self.ui.modelComboBox.findData(name) < 0:
                self.ui.modelComboBox.addItem(name, name)

    def _showRunning(self) -> None:
        self.ui.applyButton.text = _("Cancel")
        self.ui.progressBar.value = 0
        self.ui.progressBar.visible = True
        self.say(_("The engine is starting…"))
        self._timer.start()

    def _showIdle(self, text: str, isError: bool = False) -> None:
        self._timer.stop()
        self.ui.applyButton.text = _("Segment")
        self.ui.applyButton.enabled = self.parameters is not None and self.parameters.inputVolume is not None
        self.ui.progressBar.visible = False
        self.say(text, isError)
