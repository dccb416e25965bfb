"""The section that shows how the answer formed: the masks of the steps, what changed between them, the uncertainty."""

import time
from typing import Any

import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from DiffSegLib.errors import DiffSegError
from DiffSegLib.scene import kept, plots, step_text, uncertainty
from DiffSegLib.scene.logic import Segmentation
from DiffSegLib.scene.panels.panel import Panel
from DiffSegLib.scene.steps import Edited, driven_by, held_step, is_kept

PLAY_INTERVAL = 700  # ms a step is shown while playing
CHART_INTERVAL = 0.4  # seconds between two drawings of the charts while steps arrive
KEPT_BYTES = 1 << 29  # of the masks of all runs whose steps can be shown again


class StepsPanel(Panel):
    """Scrubs the masks of a run through the answer's segmentation; keeps them as nodes; draws what changed."""

    form = "Steps"

    def setup(self) -> None:
        """See Panel."""
        self.run: Segmentation | None = None
        self._earlier: Segmentation | None = None
        self._runs: dict[str, Segmentation] = {}  # the last one of each volume, by the volume's id
        self._sought = ""
        self._following = True
        self._plot: Any = None
        self._drawnAt = 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(PLAY_INTERVAL)
        self.connect(self._timer, "timeout()", self.onTimer)
        self.connect(self.ui.stepSlider, "valueChanged(int)", self.onStepSlider)
        self.connect(self.ui.stepSlider, "sliderReleased()", self.onStepSliderReleased)
        self.connect(self.ui.playButton, "toggled(bool)", self.onPlay)
        self.connect(self.ui.keepStepsButton, "clicked(bool)", self.onKeepSteps)
        self.connect(self.ui.sequenceButton, "clicked(bool)", self.onSequence)
        self.connect(self.ui.keepEditButton, "clicked(bool)", self.onKeepEdit)
        self.connect(self.ui.showUncertaintyCheckBox, "toggled(bool)", self.onShowUncertainty)
        self.connect(self.ui.chartsCollapsibleButton, "contentsCollapsed(bool)", self.onChartsCollapsed)
        self.ui.chartComboBox.addItem(_("Change from step to step (Dice)"), plots.DICE)
        self.ui.chartComboBox.addItem(_("Volume of each structure"), plots.VOLUME)
        self.connect(self.ui.chartComboBox, "currentIndexChanged(int)", self.onChartChosen)
        self.ui.chartsCollapsibleButton.visible = hasattr(slicer, "qMRMLPlotWidget")
        self._follow(None)

    def cleanup(self) -> None:
        """See Panel."""
        self._timer.stop()
        super().cleanup()

    def onExit(self) -> None:
        """See Panel; nobody looks any more, and what is saved or measured later should be the answer."""
        self.ui.playButton.checked = False
        self._following = True
        if self.run is not None and self.run.masks and not self.ui.keepEditButton.visible:
            self._moveTo(len(self.run.masks))

    def onSceneClosing(self) -> None:
        """See Panel."""
        self._earlier = None
        self._runs.clear()
        self._follow(None)

    def onSceneClosed(self) -> None:
        """See Panel; the charts' view, which stays, has lost whose it is."""
        if self._plot is not None:
            plots.view_node(self.logic.getParameterNode().parameterNode)

    def connectParameters(self, node: Any) -> None:
        """See Panel; a scene may have been loaded."""
        self._sought = ""
        super().connectParameters(node)

    def updateFromParameters(self) -> None:
        """See Panel; back at a volume that was segmented before, or with a scene that kept steps, they are there."""
        volume = self.parameters.inputVolume if self.parameters is not None else None
        isBusy = self.run is not None and not self.run.finished
        run = self._known(volume) if volume is not None and not isBusy else None
        if run is not None and run is not self.run:
            self._follow(run)
            self._arrive(held_step(run))
        elif self.run is None:
            self._invite()

    def onRunStarted(self, run: Segmentation) -> None:
        """See Panel; the steps of the run before stay in reach if this one fails."""
        self._earlier = self.run if self.run is not None and self.run.finished else None
        self._follow(run)

    def onRunStep(self, run: Segmentation) -> None:
        """See Panel; the newest step is shown unless the user has gone back to another."""
        if run is self.run:
            self._arrive()

    def onRunFinished(self, run: Segmentation) -> None:
        """See Panel; the answer is shown, whatever the user looked at meanwhile: it is what is told of."""
        if run.error is not None and (run.node is None or not run.masks):
            if run is self.run:
                self._follow(self._earlier)
                self._arrive()
            return
        self._earlier, self._following = None, True
        self.ui.playButton.checked = False
        self._remember(run)
        if run is not self.run:  # started by another window's button
            self._follow(run)
        self._arrive()
        self._updateButtons()

    def onStepSlider(self, step: int) -> None:
        """The user moved the slider, or the play button did."""
        self._following = step == self.ui.stepSlider.maximum
        self._show(step, live=self.ui.stepSlider.sliderDown or self.ui.playButton.checked)

    def onStepSliderReleased(self) -> None:
        """A large volume's 3D was left out while the slider moved."""
        self._show(self.ui.stepSlider.value)

    def onPlay(self, playing: bool) -> None:
        """Show one step after the other, from the first if the last is shown, or stop."""
        self.ui.playButton.text = _("Stop") if playing else _("Play")
        if not playing:
            self._timer.stop()
            self._show(self.ui.stepSlider.value)
            return
        if self.ui.stepSlider.value == self.ui.stepSlider.maximum:
            self.ui.stepSlider.value = 1
        if self.ui.playButton.checked:  # an edit stops it at once
            self._timer.start()

    def onTimer(self) -> None:
        """The next step while playing."""
        if self.ui.stepSlider.value < self.ui.stepSlider.maximum:
            self.ui.stepSlider.value += 1
        else:
            self.ui.playButton.checked = False

    def onKeepSteps(self) -> None:
        """Make a segmentation of every step."""
        with slicer.util.WaitCursor():
            made = self._try(lambda run: self.logic.steps(run))
        if made:
            text = _("The steps are kept as hidden segmentations, “{first}” to “{last}”; show them in the module Data.")
            self.say(text.format(first=made[0].GetName(), last=made[-1].GetName()))

    def onSequence(self) -> None:
        """Make a sequence of the steps."""
        with slicer.util.WaitCursor():  # seconds for a large volume
            made = self._try(lambda run: self.logic.steps(run, asSequence=True))
        if made:
            name, shown = made[0].GetName(), driven_by(made[0])
            text = _("The steps are kept as the sequence “{name}”; play it with the module Sequences.")
            if not shown.GetDisplayVisibility():
                text += " " + _("Show its segmentation “{shown}”, which is hidden, in the module Data.")
            self.say(text.format(name=name, shown=shown.GetName()))

    def onKeepEdit(self) -> None:
        """Leave the edited segmentation to the user and show the steps in a new one."""
        edited = self._try(lambda run: self.logic.keepEdit(run))
        if edited is not None:
            self._moveTo(self.ui.stepSlider.maximum)
            self._updateButtons()
            text = _("Your edit is kept as “{name}”, hidden; show it in the module Data. The slider works again.")
            self.say(text.format(name=edited.GetName()))

    def onShowUncertainty(self, shown: bool) -> None:
        """Lay the uncertainty over the slice views, or give back what was there."""
        uncertainty.overlay(self._uncertaintyNode() if shown else None)

    def onChartsCollapsed(self, collapsed: bool) -> None:
        """The charts are made when they are looked at for the first time."""
        if collapsed or not hasattr(slicer, "qMRMLPlotWidget"):
            return
        if self._plot is None:
            self._plot = slicer.qMRMLPlotWidget()
            self._plot.setMRMLScene(slicer.mrmlScene)
            self._plot.plotController().setVisible(False)
            self._plot.minimumHeight = 14 * self.root.fontMetrics().height()
            self.ui.chartsCollapsibleButton.layout().addWidget(self._plot)
        self._draw()

    def onChartChosen(self, index: int) -> None:
        """Another of the two charts."""
        self._draw()

    def say(self, text: str) -> None:
        """Write the section's status line."""
        self.ui.stepsStatusLabel.text = text
        self.ui.stepsStatusLabel.visible = bool(text)

    def _follow(self, run: Segmentation | None) -> None:
        """Serve another run, or none."""
        self.run, self._following = run, True
        self.ui.playButton.checked = False
        self.ui.keepEditButton.visible = False
        self.say("")
        self._invite()
        self._setRange(0)
        self._updateButtons()

    def _invite(self) -> None:
        """What to do where no run is followed; steps that were kept in a scene are nodes of their own there."""
        text = _("Segment a volume; then drag the slider to see how the answer formed.")
        count = sum(is_kept(node) for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))
        if count:
            found = _("This scene holds {count} steps that were kept; show them in the module Data.")
            text = "\n".join([found.format(count=count), text])
        self.ui.stepLabel.text = text

    def _known(self, volume: Any) -> Segmentation | None:
        """The last run on a volume; what the scene kept of it is looked for once."""
        if volume.GetID() not in self._runs and volume.GetID() != self._sought:
            run = kept.read(volume)
            if run is not None:
                self._remember(run)
        self._sought = volume.GetID()
        return self._runs.get(volume.GetID())

    def _remember(self, run: Segmentation) -> None:
        """Keep the run, and of older ones as many as their masks leave memory for."""
        self._runs.pop(run.volume.GetID(), None)
        self._runs[run.volume.GetID()] = run
        while len(self._runs) > 1 and sum(m.nbytes for each in self._runs.values() for m in each.masks) > KEPT_BYTES:
            del self._runs[next(iter(self._runs))]

    def _arrive(self, step: int | None = None) -> None:
        """There may be more masks than the slider reaches. step: the one that the node holds, if it is to stay."""
        if self.run is None or not self.run.masks:
            return
        count = len(self.run.masks)
        self._setRange(count)
        self._following = self._following and step in (None, count)
        self._moveTo(step or (count if self._following else self.ui.stepSlider.value))
        self._updateButtons()
        if self.run.finished or time.monotonic() - self._drawnAt > CHART_INTERVAL:
            self._draw()

    def _setRange(self, count: int) -> None:
        self.ui.stepSlider.blockSignals(True)
        self.ui.stepSlider.maximum = max(count, 1)
        self.ui.stepSlider.blockSignals(False)

    def _moveTo(self, step: int) -> None:
        self.ui.stepSlider.blockSignals(True)
        self.ui.stepSlider.value = step
        self.ui.stepSlider.blockSignals(False)
        self._show(step, live=self.ui.stepSlider.sliderDown)

    def _show(self, step: int, live: bool = False) -> None:
        """Bring a step into the answer's segmentation, and say what is seen."""
        if self.run is None or not 1 <= step <= len(self.run.masks):
            return
        # the first steps of a run may have no segmentation yet
        if self.run.node is None or self._try(lambda run: self.logic.showStep(run, step, live) or True):
            self.ui.stepLabel.text = step_text.words(self.run, step)
            self.ui.stepLabel.toolTip = step_text.details(self.run, step)
            self.ui.keepEditButton.visible = False
            self.say("")

    def _try(self, action: Any) -> Any:
        """What the logic answers, or None after saying why it could not."""
        if self.run is None:
            return None
        try:
            return action(self.run)
        except Edited:
            self.ui.playButton.checked = False
            self.ui.stepLabel.text = _("The segmentation as you edited it")
            text = _("“{name}” was edited, so no other step is shown in it.")
            rest = _("Press Keep my edit to go on.") if self.run.finished else _("The run goes on in a new one.")
            self.say(f"{text} {rest}".format(name=self.run.node.GetName()))
            self.ui.keepEditButton.visible = self.run.finished
        except DiffSegError as problem:
            self.say(str(problem))
            self._updateButtons()
        return None

    def _uncertaintyNode(self) -> Any:
        return uncertainty.find(self.run) if self.run is not None and self.run.uncertainty is not None else None

    def _updateButtons(self) -> None:
        """Only what can be done can be pressed."""
        run = self.run
        count = len(run.masks) if run is not None else 0
        isThere = run is not None and (run.node is None or run.node.GetScene() is not None)
        self.ui.stepSlider.enabled = self.ui.playButton.enabled = count > 1 and isThere
        canKeep = run is not None and run.finished and run.node is not None and isThere and count > 0
        self.ui.keepStepsButton.enabled = self.ui.sequenceButton.enabled = canKeep
        self.ui.showUncertaintyCheckBox.enabled = self._uncertaintyNode() is not None
        if not self.ui.showUncertaintyCheckBox.enabled:
            self.ui.showUncertaintyCheckBox.checked = False
        elif self.ui.showUncertaintyCheckBox.checked:
            self.onShowUncertainty(True)

    def _draw(self) -> None:
        """Bring the charts up to date if they are looked at."""
        if self._plot is None or self.ui.chartsCollapsibleButton.collapsed or self.run is None or not self.run.masks:
            return
        self._drawnAt = time.monotonic()
        charts = plots.update(self.run)
        view = plots.view_node(self.logic.getParameterNode().parameterNode)
        if self._plot.mrmlPlotViewNode() is not view:
            self._plot.setMRMLPlotViewNode(view)
        view.SetPlotChartNodeID(charts[self.ui.chartComboBox.currentData].GetID())
