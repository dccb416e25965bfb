"""The section that follows trainings: which there are, how they go, stop and go on, and their models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DiffSegLib.errors import DiffSegError
from DiffSegLib.scene import training_chart
from DiffSegLib.scene.panels.panel import Panel
from DiffSegLib.scene.panels.tables import fitRows
from DiffSegLib.scene.training import FAILED, FINISHED, RUNNING, STOPPED, STOPPING, Training
from DiffSegLib.scene.training_chart import TrainingChart
from DiffSegLib.scene.training_text import stateOf, storyOf

INTERVAL = 1000  # ms between two looks at the trainings that run
PLOT_LINES = 11  # height of a plot, in lines of text


class TrainingsPanel(Panel):
    """Looks at running trainings once a second, reads only what is new, and draws only what is looked at."""

    form = "Trainings"

    def setup(self) -> None:
        """See Panel."""
        self.trainings: list[Training] = []
        self._shown: Training | None = None
        self._budget: tuple[bool, float] | None = None
        self._said: dict[Path, str] = {}  # why what was asked of a training could not be done
        self._finishing: set[Path] = set()  # trainings that were asked to stop so that their model can be made
        self._plots: dict[str, Any] = {}
        self._drawn: tuple[Path, int] | None = None
        self._chart = TrainingChart(
            {training_chart.LOSS: _("Loss"), training_chart.DICE: _("Validation Dice")}, _("Iteration"), _("mean")
        )
        header = self.ui.trainingsTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL)
        self.connect(self._timer, "timeout()", self.onTimer)
        self.connect(self.ui.trainingsCollapsibleButton, "contentsCollapsed(bool)", self.onCollapsed)
        self.connect(self.ui.trainingsTable, "itemSelectionChanged()", self.onSelected)
        self.connect(self.ui.stopTrainingButton, "clicked(bool)", self.onStop)
        self.connect(self.ui.resumeTrainingButton, "clicked(bool)", self.onResume)
        self.connect(self.ui.finishTrainingButton, "clicked(bool)", self.onFinish)
        self.connect(self.ui.trainingBudgetSpinBox, "valueChanged(int)", self.onBudget)
        self.connect(self.ui.useTrainingModelButton, "clicked(bool)", self.onUseModel)
        self.connect(self.ui.openTrainingButton, "clicked(bool)", self.onOpenFolder)
        self.refresh()

    def cleanup(self) -> None:
        """See Panel; the trainings go on."""
        self._timer.stop()
        self._chart.clear(remove=True)
        super().cleanup()

    def onSceneClosing(self) -> None:
        """See Panel."""
        self._chart.clear()
        self._drawn = None

    def onSceneClosed(self) -> None:
        """See Panel; the charts' views, which stay, have lost whose they are: another module's chart would go there."""
        for kind in self._plots:
            training_chart.view_node(kind, self.logic.getParameterNode().parameterNode)

    def connectParameters(self, node: Any) -> None:
        """See Panel; trainings may have been started elsewhere meanwhile."""
        super().connectParameters(node)
        self.refresh()

    def onTrainingStarted(self, training: Training) -> None:
        """See Panel; the new training is shown."""
        self.ui.trainingsCollapsibleButton.collapsed = False
        self.refresh(training)

    def onCollapsed(self, collapsed: bool) -> None:
        """The list is made anew when the section is opened."""
        if not collapsed:
            self.refresh()

    def refresh(self, chosen: Training | None = None) -> None:
        """Find all trainings; the chosen one, else the one that was shown, else the newest is shown."""
        wanted = chosen or self._shown
        known = {training.folder: training for training in self.trainings}
        self.trainings = [known.get(found.folder, found) for found in self.logic.trainings()]
        for training in self.trainings:
            self._look(training)
        self.ui.trainingsTable.blockSignals(True)
        self.ui.trainingsTable.setRowCount(len(self.trainings))
        for row, training in enumerate(self.trainings):
            for column, text in enumerate((training.name, "", training.created.replace("T", "  "))):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(str(training.folder))
                self.ui.trainingsTable.setItem(row, column, item)
        rows = [n for n, each in enumerate(self.trainings) if wanted is not None and each.folder == wanted.folder]
        row = rows[0] if rows else 0
        if self.trainings:
            self.ui.trainingsTable.setCurrentCell(row, 0)
        self.ui.trainingsTable.blockSignals(False)
        fitRows(self.ui.trainingsTable)
        if not self.ui.trainingsCollapsibleButton.collapsed:
            for widget in self._controls():  # without a training there is nothing to do with one
                widget.visible = bool(self.trainings)
        self._select(row)

    def onSelected(self) -> None:
        """Another training is looked at."""
        self._select(self.ui.trainingsTable.currentRow())

    def onTimer(self) -> None:
        """Look at what runs; one that has finished is told, since there is a new model."""
        for training in [each for each in self.trainings if each.active]:
            self._look(training)
        self._show()

    def _look(self, training: Training) -> None:
        """Bring a training up to date, and do what its end sets off: whoever looks first sees it, and nobody again."""
        wasActive = training.active
        training.update()
        if training.active or not wasActive:
            return
        if training.folder in self._finishing:
            self._finishing.discard(training.folder)
            if training.state != FINISHED:  # by itself meanwhile
                self._do(lambda stopped: stopped.finish(), training)
        if training.state == FINISHED and training.model is not None:
            self.window.tell("onModelsChanged", str(training.model))

    def onStop(self) -> None:
        """Ask the training to end; asked before, end it at once."""
        self._do(lambda training: training.kill() if training.state == STOPPING else training.stop())

    def onResume(self) -> None:
        """Go on, with the budget that stands in the form, or exactly its own where that was left as it is."""

        def resume(training: Training) -> None:
            amount, (byTime, own) = int(self.ui.trainingBudgetSpinBox.value), training.budget
            if amount == _whole(own):
                training.resume()
            elif byTime:
                training.resume(minutes=float(amount))
            else:
                training.resume(iterations=amount)

        self._do(resume)

    def onFinish(self) -> None:
        """Make a model of what the training has learnt so far; one that is at work is stopped first."""

        def finish(training: Training) -> None:
            if training.active:
                training.stop()
                self._finishing.add(training.folder)
            else:
                training.finish()

        self._do(finish)

    def _do(self, action: Callable[[Training], None], training: Training | None = None) -> None:
        """Something with a training, that which is shown unless said; why it could not be done is told."""
        training = training or self._shown
        if training is None:
            return
        try:
            action(training)
        except DiffSegError as problem:
            self._said[training.folder] = str(problem)
        else:
            self._said.pop(training.folder, None)
        self._show()

    def onBudget(self, _amount: int) -> None:
        """A finished training can go on with more."""
        self._updateButtons()

    def onUseModel(self) -> None:
        """Choose the model in the section Segment."""
        path = self._shown.model if self._shown is not None else None
        if path is not None and self.parameters is not None:
            self.window.tell("onModelsChanged", str(path))
            self.window.tell("onModelWanted", str(path))

    def onOpenFolder(self) -> None:
        """Open the training's folder in the system's file manager."""
        if self._shown is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._shown.folder)))

    def _select(self, row: int) -> None:
        self._shown = self.trainings[row] if 0 <= row < len(self.trainings) else None
        self._budget = None
        self._show()

    def _showBudget(self) -> None:
        """The budget of the training that is shown, as long as nobody has begun to give it another."""
        if self._shown is not None and self._shown.budget != self._budget:
            self._budget = byTime, amount = self._shown.budget
            self.ui.trainingBudgetSpinBox.suffix = _(" min") if byTime else _(" iterations")
            self.ui.trainingBudgetSpinBox.value = _whole(amount)

    def _show(self) -> None:
        """Write what is known of the trainings, and run the timer while one is at work."""
        if not self.open:
            return
        for row, each in enumerate(self.trainings):
            item = self.ui.trainingsTable.item(row, 1)
            text = stateOf(each)
            if item is not None and item.text() != text:
                item.setText(text)
        training = self._shown
        self.ui.trainingProgressBar.value = int(100 * training.fraction) if training is not None else 0
        isFinishing = training is not None and training.folder in self._finishing
        said = self._said.get(training.folder, "") if training is not None else ""
        self.ui.trainingLabel.text = storyOf(training, isFinishing, said)
        self._showBudget()
        self._updateButtons()
        if any(each.active for each in self.trainings):
            self._timer.start()
        else:
            self._timer.stop()
        self._draw()

    def _updateButtons(self) -> None:
        training = self._shown
        stopping = training is not None and training.state == STOPPING
        self.ui.stopTrainingButton.text = _("End at once") if stopping else _("Stop")
        self.ui.stopTrainingButton.enabled = training is not None and training.active
        more = training is not None and self.ui.trainingBudgetSpinBox.value > round(training.spent)
        canResume = training is not None and (
            training.state in (STOPPED, FAILED) or (training.state == FINISHED and more)
        )
        self.ui.resumeTrainingButton.enabled = canResume
        self.ui.finishTrainingButton.enabled = training is not None and self._canFinish(training)
        self.ui.trainingBudgetSpinBox.enabled = training is not None and not training.active
        self.ui.useTrainingModelButton.enabled = training is not None and training.model is not None
        self.ui.openTrainingButton.enabled = training is not None

    def _canFinish(self, training: Training) -> bool:
        """Whether there is, or will be once it has stopped, something learnt that is no model yet."""
        if training.active:
            return training.state == RUNNING and not training.finishing and training.folder not in self._finishing
        return training.state in (STOPPED, FAILED) and training.kept > 0

    def _controls(self) -> list[Any]:
        ui = self.ui
        buttons = [ui.stopTrainingButton, ui.resumeTrainingButton, ui.finishTrainingButton, ui.useTrainingModelButton]
        budget = [ui.trainingBudgetLabel, ui.trainingBudgetSpinBox]
        return [ui.trainingsTable, ui.trainingProgressBar, *buttons, ui.openTrainingButton, *budget]

    def _draw(self) -> None:
        """Draw the chart of the training that is looked at, where there is something new in it."""
        training = self._shown
        if training is None or self.ui.trainingsCollapsibleButton.collapsed:
            return
        state = (training.folder, len(training.metrics))
        if state == self._drawn:
            return
        if self._drawn is not None and self._drawn[0] != training.folder:
            self._chart.clear(remove=True)
        self._drawn = state
        charts = self._chart.update(training)
        if not hasattr(slicer, "qMRMLPlotWidget"):
            return
        for kind in training_chart.KINDS:
            chart = charts.get(kind)
            if chart is None:
                if kind in self._plots:
                    self._plots[kind].visible = False
                continue
            view = training_chart.view_node(kind, self.logic.getParameterNode().parameterNode)
            plot = self._plot(kind)
            plot.setMRMLPlotViewNode(view)
            view.SetPlotChartNodeID(chart.GetID())
            plot.visible = True

    def _plot(self, kind: str) -> Any:
        """The plot widget of a kind, made when it is first needed."""
        if kind not in self._plots:
            plot = slicer.qMRMLPlotWidget()
            plot.setMRMLScene(slicer.mrmlScene)
            plot.plotController().setVisible(False)
            plot.minimumHeight = PLOT_LINES * self.root.fontMetrics().height()
            self.ui.trainingsCollapsibleButton.layout().addWidget(plot)
            self._plots[kind] = plot
        return self._plots[kind]


def _whole(amount: float) -> int:
    """A budget as the form shows it."""
    return max(1, round(amount))
