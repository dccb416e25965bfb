"""The section that compares two segmentations: a table, a sentence, and bars when asked for."""

import math
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError
from DiffSegLib.scene.evaluation import Evaluation
from DiffSegLib.scene.logic import Segmentation
from DiffSegLib.scene.panels.panel import Panel
from DiffSegLib.scene.panels.run_line import WARNING

FEW = 4  # so many segments are named one by one in the status line


class EvaluateParameters:
    """Saved with the scene."""

    evaluatePrediction: vtkMRMLSegmentationNode
    evaluateReference: vtkMRMLSegmentationNode
    evaluateVolume: vtkMRMLScalarVolumeNode
    evaluateTolerance: Annotated[float, WithinRange(0.0, 100.0)] = 1.0


class EvaluatePanel(Panel):
    """Starts and cancels a comparison and shows its table."""

    form = "Evaluate"

    def setup(self) -> None:
        """See Panel."""
        self.evaluation: Evaluation | None = None
        self.shown: Evaluation | None = None  # the last that succeeded
        self._running = False
        self.connect(self.ui.evaluateButton, "clicked(bool)", self.onEvaluate)
        self.connect(self.ui.evaluateChartButton, "clicked(bool)", self.onShowChart)
        self._forget()

    def cleanup(self) -> None:
        """See Panel."""
        self._cancel()
        super().cleanup()

    def onSceneClosing(self) -> None:
        """See Panel."""
        self._cancel()
        self._forget()

    def onRunFinished(self, run: Segmentation) -> None:
        """See Panel; a fresh result is what one wants to measure."""
        if run.error is None and self.parameters is not None and self.parameters.evaluatePrediction is None:
            self.parameters.evaluatePrediction = run.node

    def updateFromParameters(self) -> None:
        """See Panel; also says whether Evaluate can be pressed."""
        if not self._running:
            self.ui.evaluateButton.enabled = self._chosen()

    def onEvaluate(self) -> None:
        """Compare, or cancel what runs."""
        if self._running:
            self.ui.evaluateButton.enabled = False
            self.say(_("Cancelling…"))
            self._cancel()
            return
        node = self.parameters
        self.evaluation = None
        self._showRunning()
        try:
            self.evaluation = self.logic.evaluate(
                node.evaluatePrediction,
                node.evaluateReference,
                volume=node.evaluateVolume,
                tolerance=node.evaluateTolerance,
                onEvent=self.onEvent,
                onFinished=self.onFinished,
                wait=False,
            )
        except Exception as problem:  # whatever it is, the button must not stay "Cancel"
            self._showIdle(str(problem) or type(problem).__name__, isError=True)
            if not isinstance(problem, DiffSegError):
                raise
            return
        if self.evaluation.finished:  # the engine could not even be started
            self.onFinished(self.evaluation)

    def onEvent(self, event: events.Event) -> None:
        """Progress of the comparison."""
        if self.open and event["event"] == "progress":
            self.ui.evaluateProgressBar.value = int(100 * event["fraction"])
            self.say(_("Measuring…"))

    def onFinished(self, evaluation: Evaluation) -> None:
        """The comparison ended: show its table, or say why there is none."""
        if not self.open or evaluation is not self.evaluation:  # of a window or a scene that was closed meanwhile
            return
        if evaluation.error is not None:
            self._showIdle(str(evaluation.error), isError=not isinstance(evaluation.error, Cancelled))
            return
        self.shown = evaluation
        self.ui.evaluateTableView.setMRMLTableNode(evaluation.table)
        self.ui.evaluateTableView.visible = True
        self._showIdle(" ".join([self._summary(evaluation), *evaluation.warnings]))

    def onShowChart(self) -> None:
        """Show the bars in the layout."""
        try:
            self.logic.showEvaluation(self.shown)
        except DiffSegError as problem:
            self.shown = None
            self._showIdle(str(problem), isError=True)

    def say(self, text: str) -> None:
        """Write the status line."""
        self.ui.evaluateStatusLabel.text = text

    def _chosen(self) -> bool:
        node = self.parameters
        return node is not None and node.evaluatePrediction is not None and node.evaluateReference is not None

    def _cancel(self) -> None:
        if self._running and self.evaluation is not None:
            self.logic.cancel(self.evaluation)

    def _forget(self) -> None:
        """Show nothing of an earlier comparison."""
        self.evaluation = self.shown = None
        self.ui.evaluateTableView.setMRMLTableNode(None)
        self.ui.evaluateTableView.visible = False
        self._showIdle(_("Choose two segmentations and press Evaluate."))

    def _summary(self, evaluation: Evaluation) -> str:
        """What came out, in one sentence; what is empty, in another."""
        good = {name: found for name, found in evaluation.segments.items() if found["outcome"] == "found"}
        empty = {
            "missed": _("Empty in the prediction: {names}."),
            "spurious": _("Empty in the reference: {names}."),
            "absent": _("Empty in both: {names}."),
        }
        sentences = []
        if len(good) > FEW:
            dice = math.fsum(found["dice"] for found in good.values()) / len(good)
            sentences.append(_("Done: mean Dice {dice:.3f} of {count} segments.").format(dice=dice, count=len(good)))
        elif good:
            text = _("{name} Dice {dice:.3f}, HD95 {distance:.1f} mm")
            parts = [text.format(name=n, dice=f["dice"], distance=f["hd95_mm"]) for n, f in good.items()]
            sentences.append(_("Done: {parts}.").format(parts="; ".join(parts)))
        for outcome, text in empty.items():
            names = [name for name, found in evaluation.segments.items() if found["outcome"] == outcome]
            if names:
                sentences.append(text.format(names=", ".join(names)))
        return " ".join(sentences)

    def _showRunning(self) -> None:
        self.ui.evaluateButton.text = _("Cancel")
        self.ui.evaluateProgressBar.value = 0
        self.ui.evaluateProgressBar.visible = True
        self.shown = None  # what was shown is of an earlier comparison
        self.ui.evaluateTableView.visible = False
        self.ui.evaluateChartButton.enabled = False
        isBusy = self.logic.client.busy
        self.say(_("Waiting for what the engine is doing…") if isBusy else _("The engine is starting…"))
        self._running = True

    def _showIdle(self, text: str, isError: bool = False) -> None:
        self._running = False
        self.ui.evaluateButton.text = _("Evaluate")
        self.ui.evaluateButton.enabled = self._chosen()
        self.ui.evaluateChartButton.enabled = self.shown is not None
        self.ui.evaluateProgressBar.visible = False
        self.say(WARNING + _("Not done: {reason}").format(reason=text) if isError else text)
