"""The section that prepares and starts a training: data from a folder or the scene, a proposal, one button."""

import json
from pathlib import Path
from typing import Annotated, Any

import ctk
import qt
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange

from DiffSegLib import config, events
from DiffSegLib.errors import Cancelled, DiffSegError, InputError
from DiffSegLib.models.library import check_name
from DiffSegLib.presets import PRESETS
from DiffSegLib.scene import dataset
from DiffSegLib.scene.panels.choices import nameTraining
from DiffSegLib.scene.panels.panel import Panel
from DiffSegLib.scene.panels.run_line import WARNING
from DiffSegLib.scene.panels.train_cases import CasesTable
from DiffSegLib.scene.preparation import Preparation
from DiffSegLib.scene.proposal_text import assignments_of, report, shown
from DiffSegLib.scene.trainings import TrainingPlan

PAUSE = 500  # ms after the last change, before the proposal is made anew


class TrainParameters:
    """Saved with the scene. Empty texts and a batch of 0 take the proposal."""

    trainFromScene: bool = False
    trainFolder: str = ""
    trainPreset: Annotated[str, Choice(list(PRESETS))] = "default"
    trainBudget: Annotated[str, Choice(["minutes", "iterations"])] = "minutes"  # in the order of nameTraining
    trainAmount: Annotated[int, WithinRange(1, 10_000_000)] = 60
    trainName: str = ""
    trainSpacing: str = ""
    trainPatch: str = ""
    trainChannels: str = ""
    trainBatch: Annotated[int, WithinRange(0, 1024)] = 0
    trainSeed: Annotated[int, WithinRange(0, 2147483647)] = 0
    trainMemory: Annotated[int, WithinRange(1, 2048)] = 8
    trainSkipBad: bool = False


class TrainPanel(Panel):
    """Checks the data in the worker, shows the proposal, and starts the training."""

    form = "Train"

    def setup(self) -> None:
        """See Panel."""
        self.plan: TrainingPlan | None = None
        self._key: Any = None  # what the plan was asked for
        self._current = False  # whether the plan shown is the one for it
        self._preparation = Preparation(self.logic, self.onEvent, self.onPlan)
        self._cases = CasesTable(self.ui.trainCasesTable)
        self._later = self.after(PAUSE, self.onPause)
        self._turn = qt.QTimer()
        self._turn.setInterval(0)
        self.connect(self._turn, "timeout()", self.onTurn)
        self.ui.trainFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.trainingsFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.trainingsFolderPathLineEdit.currentPath = str(self.logic.trainingsFolder)
        self.connect(self.ui.trainCollapsibleButton, "contentsCollapsed(bool)", self.onCollapsed)
        self.connect(self.ui.trainFolderPathLineEdit, "currentPathChanged(QString)", self.onFolder)
        self.connect(self.ui.trainFolderPathLineEdit, "validInputChanged(bool)", self.onFolderOrNone)
        self.connect(self.ui.trainSceneRadioButton, "toggled(bool)", self.onSource)
        self.connect(self.ui.trainCasesTable, "itemChanged(QTableWidgetItem*)", self.onTicked)
        self.connectPath(self.ui.trainingsFolderPathLineEdit, self.onTrainingsFolder)
        self.connect(self.ui.trainOwnConfigCheckBox, "toggled(bool)", self.onOwnConfig)
        self.connect(self.ui.trainConfigText, "textChanged()", self.onConfigText)
        self.connect(self.ui.trainCheckButton, "clicked(bool)", self.onCheck)
        self.connect(self.ui.trainStartButton, "clicked(bool)", self.onStart)
        self._showPlan(None, _("Choose labelled data and press “Check and propose”."))

    def cleanup(self) -> None:
        """See Panel; what was written of the scene for a training that never began is removed."""
        self._forgetPlan()
        self._turn.stop()
        super().cleanup()

    def onSceneClosing(self) -> None:
        """See Panel; a plan for the scene's cases ends with them."""
        self._cases.forget()
        if self._key is not None and self._key[0] == "scene":
            self._forgetPlan()

    def onSceneClosed(self) -> None:
        """See Panel."""
        if self.plan is None:
            self._showPlan(None, _("Choose labelled data and press “Check and propose”."))

    def connectParameters(self, node: Any) -> None:
        """See Panel; the user may have drawn in another module meanwhile."""
        super().connectParameters(node)
        nameTraining(self.ui)
        self._cases.refresh()

    def updateFromParameters(self) -> None:
        """See Panel; the proposal follows once the user pauses, and Start waits for it."""
        if self.parameters is None:
            return
        fromScene, folder = self.parameters.trainFromScene, self.parameters.trainFolder
        self.ui.trainSceneRadioButton.checked = fromScene
        self.ui.trainFolderRadioButton.checked = not fromScene
        self._updateVisibility()
        if self.ui.trainFolderPathLineEdit.currentPath != folder:
            self.ui.trainFolderPathLineEdit.currentPath = folder
        if self._key is not None and self._wish() != self._key:
            if self._wish()[:2] == self._key[:2]:
                self._later.start()
            elif self.plan is not None:
                self._showPlan(None, _("Other data are chosen; press “Check and propose”."))
        self._updateStart()

    def onCollapsed(self, collapsed: bool) -> None:
        """The section was opened or closed."""
        if not collapsed:
            self._cases.refresh()
            self._updateVisibility()  # opening shows everything

    def onFolder(self, path: str) -> None:
        """Another folder."""
        if self.parameters is not None:
            self.parameters.trainFolder = path

    def onFolderOrNone(self, _isPath: bool) -> None:
        """The line was emptied, of which its other signal says nothing, or has a path again."""
        self.onFolder(self.ui.trainFolderPathLineEdit.currentPath)

    def onSource(self, fromScene: bool) -> None:
        """The folder or the scene."""
        if fromScene:
            self._cases.refresh()
        if self.parameters is not None:
            self.parameters.trainFromScene = fromScene

    def onTicked(self, item: Any) -> None:
        """A case was ticked or not."""
        self._cases.note(item)
        self.updateFromParameters()

    def onTrainingsFolder(self, path: str) -> None:
        """Trainings are put elsewhere from now on."""
        former, self.logic.trainingsFolder = self.logic.trainingsFolder, path  # empty: the usual folder
        if self.logic.trainingsFolder != former:  # other slashes are no other folder
            self._preparation.discard()

    def onCheck(self) -> None:
        """Check the data, or cancel the check."""
        if self._preparation.busy:
            self.ui.trainCheckButton.enabled = False
            self._preparation.cancel()
            return
        self._cases.refresh()
        self._propose()

    def onPause(self) -> None:
        """The user has stopped writing: make the proposal for what stands there now."""
        isShown = self.parameters is not None  # else the next look at the section compares
        if isShown and self.plan is not None and not self._preparation.busy and self._wish() != self._key:
            self._propose()

    def onTurn(self) -> None:
        """Write the next case of the scene, between two of the user's events."""
        self._preparation.turn()
        if not self._preparation.writing:
            self._turn.stop()

    def onEvent(self, event: events.Event) -> None:
        """Progress of the check."""
        if self.open and event["event"] == "progress":
            self.say(_("Checking the data: {what}…").format(what=event["text"]))

    def onPlan(self, plan: TrainingPlan) -> None:
        """The check has ended."""
        if not self.open:
            return
        self.ui.trainCheckButton.enabled = True
        self.ui.trainCheckButton.text = _("Check and propose")
        self._current = plan.error is None
        if plan.error is not None:
            known = self.plan if isinstance(plan.error, InputError) and self.plan is not None else None
            text = WARNING + _("Not done: {reason}").format(reason=plan.error)
            self._showPlan(known, _("Cancelled.") if isinstance(plan.error, Cancelled) else text, fresh=False)
        elif plan.config is None:
            self._showPlan(plan, _("A training is not possible with these data; see what is wrong with them."))
        elif plan.problems:
            self._showPlan(plan, _("Some cases cannot be used: correct them, or tick “Train without them”."))
        else:
            self._showPlan(plan, _("Ready: press “Start training”, or change the proposal under Advanced."))
        self.onPause()  # something may have been changed meanwhile

    def onOwnConfig(self, own: bool) -> None:
        """Edit the configuration as text, or go back to the proposal."""
        self.ui.trainConfigText.readOnly = not own
        for widget in self._fields():
            widget.enabled = not own
        if not own and self.plan is not None:
            self.ui.trainConfigText.plainText = self.plan.text
        self._updateStart()

    def onConfigText(self) -> None:
        """The configuration was edited: say at once what is wrong with it."""
        if self.ui.trainOwnConfigCheckBox.checked:
            try:
                self._configuration()
                self.say(_("The configuration is valid."))
            except InputError as problem:
                self.say(_("Not valid: {reason}").format(reason=problem))
            self._updateStart()

    def onStart(self) -> None:
        """Start the training; it is followed in the section Trainings."""
        self.onTrainingsFolder(self.ui.trainingsFolderPathLineEdit.currentPath)  # typed just now, perhaps
        node, name = self.parameters, self.parameters.trainName.strip()
        try:
            if not name:
                raise InputError(_("Give the model a name."))
            check_name(name)
            run = self.logic.trainingsFolder / name
            if run.exists():
                raise InputError(_("{folder} is there already; choose another name.").format(folder=run))
            settings = self._configuration()
            data = self._preparation.take(run) if node.trainFromScene else Path(node.trainFolder)
            training = self.logic.train(
                data, run, name=name, configuration=settings, memory=node.trainMemory, skipBad=node.trainSkipBad
            )
        except DiffSegError as problem:
            self.say(_("Not done: {reason}").format(reason=problem))
            return
        self._forgetPlan()
        text = _("The training of {name} has started. It goes on when Slicer is closed; see the section Trainings.")
        self._showPlan(None, text.format(name=name))
        self.window.tell("onTrainingStarted", training)

    def say(self, text: str) -> None:
        """Write the status line."""
        self.ui.trainStatusLabel.text = text

    def _wish(self) -> tuple[str, Any, Any]:
        """Kind of source, source, and everything else that the proposal depends on."""
        node = self.parameters
        kind, source = "folder", node.trainFolder
        if node.trainFromScene:
            kind, source = "scene", dataset.state_of(self._cases.ticked())
        try:
            return kind, source, (node.trainPreset, assignments_of(node), node.trainMemory)
        except InputError as problem:
            return kind, source, str(problem)

    def _propose(self) -> None:
        node = self.parameters
        try:
            if not node.trainFromScene and not node.trainFolder.strip():
                raise InputError(_("Choose a folder of labelled images first."))
            self._key, self._current = self._wish(), False
            wishes = assignments_of(node)
            source = self._cases.ticked() if node.trainFromScene else Path(node.trainFolder)
            self.ui.trainCheckButton.text = _("Cancel")
            self.ui.trainStartButton.enabled = False
            isBusy = self.logic.client.busy
            self.say(_("Waiting for what the engine is doing…") if isBusy else _("Checking the data…"))
            self._preparation.propose(source, node.trainPreset, wishes, node.trainMemory)
        except DiffSegError as problem:
            self.onPlan(TrainingPlan("", error=problem))
            return
        if self._preparation.writing:
            self._turn.start()

    def _showPlan(self, plan: TrainingPlan | None, text: str, fresh: bool = True) -> None:
        """Show a proposal, or that there is none. fresh: False where it is the one shown before."""
        self.plan = plan
        self.ui.trainProblemsText.plainText = "\n".join(plan.problems) if plan is not None else ""
        self.ui.trainReportText.plainText = report(plan) if plan is not None else ""
        self._updateVisibility()
        settings = plan.config if plan is not None else None
        for key, field in self._texts().items():
            field.placeholderText = shown(settings, key) if settings else _("proposed from the data")
        batch = _("proposed: {batch}").format(batch=settings["training"]["batch"]) if settings else _("proposed")
        self.ui.trainBatchSpinBox.specialValueText = batch
        if fresh and not self.ui.trainOwnConfigCheckBox.checked:
            self.ui.trainConfigText.plainText = plan.text if plan is not None else ""
        self.say(text)
        self._updateStart()

    def _updateVisibility(self) -> None:
        """Show what the chosen source and the plan have something to say in."""
        fromScene = self.parameters is not None and self.parameters.trainFromScene
        self.ui.trainFolderPathLineEdit.visible = not fromScene
        self.ui.trainCasesTable.visible = fromScene
        self.ui.trainProblemsGroupBox.visible = bool(self.ui.trainProblemsText.plainText)
        self.ui.trainReportText.visible = bool(self.ui.trainReportText.plainText)

    def _updateStart(self) -> None:
        """Start can be pressed where there is a proposal for what is chosen, and nothing wrong or that left out."""
        node, plan = self.parameters, self.plan
        ready = node is not None and plan is not None and plan.config is not None and not self._preparation.busy
        if ready and node is not None and plan is not None:
            ready = self._current and self._wish() == self._key and (not plan.problems or node.trainSkipBad)
        if ready and self.ui.trainOwnConfigCheckBox.checked:
            try:
                self._configuration()
            except InputError:
                ready = False
        self.ui.trainStartButton.enabled = bool(ready)

    def _configuration(self) -> dict[str, Any]:
        """What will be trained: the text as it stands. Raises InputError with what is wrong."""
        try:
            data = json.loads(self.ui.trainConfigText.plainText)
        except ValueError as problem:
            raise InputError(_("The configuration is no valid JSON ({reason}).").format(reason=problem)) from None
        settings = config.from_json(data, _("The configuration"))
        config.choose("default", data, [])  # refuses what would do nothing
        return settings.to_json()

    def _forgetPlan(self) -> None:
        self._preparation.cancel()
        self._preparation.discard()
        self.plan = self._key = None

    def _texts(self) -> dict[str, Any]:
        return {
            "data.spacing": self.ui.trainSpacingLineEdit,
            "data.patch": self.ui.trainPatchLineEdit,
            "network.channels": self.ui.trainChannelsLineEdit,
        }

    def _fields(self) -> list[Any]:
        """What the text of the configuration takes the place of."""
        own = (self.ui.trainBatchSpinBox, self.ui.trainSeedSpinBox, self.ui.trainMemorySpinBox)
        return [*self._texts().values(), *own, self.ui.trainPresetComboBox, self.ui.trainAmountSpinBox]
