"""The section that shows how the answer formed: a slider over the masks of the steps."""

from slicer.i18n import tr as _

from DiffSegLib.scene.logic import Segmentation
from DiffSegLib.scene.panels.panel import Panel


class StepsPanel(Panel):
    """Scrubs the masks of the last run through the answer's segmentation, in place."""

    form = "Steps"

    def setup(self) -> None:
        """See Panel."""
        self.run: Segmentation | None = None
        self.connect(self.ui.stepSlider, "valueChanged(int)", self.onStepSlider)

    def onRunStarted(self, run: Segmentation) -> None:
        """See Panel."""
        self.ui.stepSlider.enabled = False

    def onRunFinished(self, run: Segmentation) -> None:
        """See Panel."""
        if run.error is not None:
            return
        self.run = run
        count = len(run.masks)
        self.ui.stepSlider.blockSignals(True)
        self.ui.stepSlider.maximum = max(count, 1)
        self.ui.stepSlider.value = count
        self.ui.stepSlider.blockSignals(False)
        self.ui.stepSlider.enabled = count > 1
        self._showNumber(count)

    def onSceneClosing(self) -> None:
        """See Panel."""
        self.run = None
        self.ui.stepSlider.enabled = False

    def onStepSlider(self, step: int) -> None:
        """Show the mask of a step in the answer's segmentation."""
        if self.run is not None and 1 <= step <= len(self.run.masks):
            self.logic.showStep(self.run, step)
            self._showNumber(step)

    def _showNumber(self, step: int) -> None:
        steps = len(self.run.masks) if self.run is not None else step
        self.ui.stepLabel.text = _("step {step} of {steps}").format(step=step, steps=steps)
