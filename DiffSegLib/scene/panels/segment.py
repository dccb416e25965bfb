"""The section that segments: volume, model, region, settings, one button that becomes Cancel, progress."""

from typing import Annotated, Any

import qt
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem
from DiffSegLib.jobs import DEVICES, SAMPLERS
from DiffSegLib.scene import cameras, nodes, roi, sample_data
from DiffSegLib.scene.logic import Segmentation
from DiffSegLib.scene.panels.channel_selectors import ChannelSelectors
from DiffSegLib.scene.panels.choices import chooseVolume, nameChoices
from DiffSegLib.scene.panels.hints import hints
from DiffSegLib.scene.panels.model_choice import ModelChoice
from DiffSegLib.scene.panels.panel import Panel
from DiffSegLib.scene.panels.reset_text import resetText
from DiffSegLib.scene.panels.run_line import WARNING, RunLine
from DiffSegLib.scene.parameters import takeResets

PREPARE_DELAY = 300  # ms; so that neither a glance at the module nor a walk through the models starts anything
MAX_STEPS = 1000  # in the window; more can be had from the console
CHANNEL_ROW = 3  # of the form's layout: below the volume, the model and its card


class SegmentParameters:
    """Saved with the scene."""

    inputVolume: vtkMRMLScalarVolumeNode
    model: str = "hippocampus"
    roi: vtkMRMLMarkupsROINode | None = None
    steps: Annotated[int, WithinRange(1, MAX_STEPS)] = 5
    sampler: Annotated[str, Choice(list(SAMPLERS))] = "ddim"
    samples: Annotated[int, WithinRange(1, 100)] = 1
    seed: Annotated[int, WithinRange(0, 2147483647)] = 0
    device: Annotated[str, Choice(list(DEVICES))] = "auto"


class SegmentPanel(Panel):
    """Starts and cancels runs and tells the other sections of them."""

    form = "Segment"

    def setup(self) -> None:
        """See Panel."""
        self.run: Segmentation | None = None
        self._hinted: tuple[Any, ...] = ()
        self._chosen: tuple[Any, ...] = ()
        self._ended: Segmentation | None = None
        self._complaint = ""  # what the line said when the engine could not run
        self._prepareTimer = qt.QTimer()
        self._prepareTimer.setInterval(PREPARE_DELAY)
        self._prepareTimer.setSingleShot(True)
        self.connect(self._prepareTimer, "timeout()", self.onPrepare)
        self._entered = False
        self.line = RunLine(self.ui)
        self.models = ModelChoice(self.ui, self.onModelChosen)
        self.channels = ChannelSelectors(self.ui.segmentCollapsibleButton.layout(), CHANNEL_ROW, self._node)
        self.connect(self.ui.sampleButton, "clicked(bool)", self.onSample)
        self.connect(self.ui.modelComboBox, "currentIndexChanged(int)", self.models.onIndex)
        self.connect(self.ui.cardButton, "toggled(bool)", self.onCard)
        self.connect(self.ui.browseButton, "clicked(bool)", self.onBrowse)
        self.connect(self.ui.placeRoiButton, "clicked(bool)", self.onPlaceRoi)
        self.connect(self.ui.applyButton, "clicked(bool)", self.onApply)
        self._showInvitation()

    def cleanup(self) -> None:
        """See Panel; a run that is under way has no window left."""
        self._cancelRun()
        self._prepareTimer.stop()
        super().cleanup()

    def onEnter(self) -> None:
        """See Panel; the model is loaded in advance."""
        self._entered = True
        self._prepareTimer.start()

    def onExit(self) -> None:
        """See Panel."""
        self._entered = False
        self._prepareTimer.stop()

    def onSceneClosing(self) -> None:
        """See Panel; the nodes of a run end with their scene."""
        self._cancelRun()
        self._ended, self.run = self.run, None

    def onSceneClosed(self) -> None:
        """See Panel."""
        self._showInvitation()

    def connectParameters(self, node: Any) -> None:
        """See Panel; the first volume is chosen for the user, and what a scene could not bring is told here for all."""
        chooseVolume(node)  # before the form follows the node
        super().connectParameters(node)
        nameChoices(self.ui)
        self.line.warn(resetText(takeResets(node.parameterNode), node))

    def onVolumesChanged(self) -> None:
        """See Panel; the first volume that is loaded while the module is open is chosen, too."""
        if self.parameters is not None:
            chooseVolume(self.parameters)

    def updateFromParameters(self) -> None:
        """See Panel; also says whether Segment can be pressed, and what is unusual about the volume."""
        if self.parameters is None:
            return
        wrong = ""
        try:
            self.models.follow(self.parameters.model)
        except DiffSegError as problem:  # a scene from another computer
            wanted, self.parameters.model = self.parameters.model, self.models.model
            text = _("{reason} {model} is chosen instead.")
            wrong = (
                text.format(reason=problem, model=self.models.model) if wanted != self.models.model else str(problem)
            )
        card = self.models.card
        self.channels.show(card.channels[1:] if card is not None else ())
        self.ui.sampleButton.visible = self.parameters.inputVolume is None
        isRegion = card is not None and len(card.field_of_view) == 3 and self.parameters.inputVolume is not None
        self.ui.placeRoiButton.enabled = isRegion
        self._updateHints()
        chosen = (self.parameters.inputVolume, self.parameters.model, self.parameters.roi)
        if not self._isRunning() and chosen != self._chosen:  # what the line says is of something else
            self._showInvitation()
        self._chosen = chosen
        if not self._isRunning():  # a run may have ended while the module was not shown
            self.ui.applyButton.enabled = self.parameters.inputVolume is not None
        if wrong:
            self.say(wrong, isError=True)

    def onSample(self) -> None:
        """Load the sample, so that somebody without an image can see at once what the module does."""
        try:
            self.parameters.inputVolume = sample_data.load()
        except DiffSegError as problem:
            self.say(str(problem), isError=True)
        else:
            self.say(_("The sample is loaded. Press Segment."))

    def onModelChosen(self, model: str) -> None:
        """A model was chosen in the list."""
        if self.parameters is not None:
            self.parameters.model = model
        if self._entered:
            self._prepareTimer.start()

    def onCard(self, _shown: bool) -> None:
        """Show or hide the card of the model."""
        self.models.showCard()

    def onBrowse(self) -> None:
        """Choose a model file of one's own."""
        path = self.models.onBrowse()
        if path:
            self.useModelFile(path)

    def useModelFile(self, path: str) -> None:
        """Add a model file to the list and choose it; a file that is no model is said in the status line."""
        try:
            self.models.useFile(path)
        except DiffSegError as problem:
            self.say(str(problem), isError=True)

    def onModelsChanged(self, path: str | None = None) -> None:
        """See Panel; a new model is listed, and the chosen one stays chosen."""
        self.models.refresh()

    def onModelWanted(self, path: str) -> None:
        """See Panel."""
        self.useModelFile(path)

    def onPlaceRoi(self) -> None:
        """Place a region of the model's size, to be dragged onto the structure."""
        card, volume = self.models.card, self.parameters.inputVolume
        if card is None:
            return
        try:
            nodes.check_volume(volume)
        except DiffSegError as problem:
            self.say(str(problem), isError=True)
            return
        self.parameters.roi = roi.place(volume, card.field_of_view, _("{model} region").format(model=card.name))
        self.say(_("Drag the region onto the structure, then press Segment."))

    def onPrepare(self) -> None:
        """Let the engine load the model, so that the first press is quick."""
        if self.logic.client.busy or not self.models.model:
            return
        try:
            device = self.parameters.device if self.parameters is not None else "auto"
            self.logic.prepare(self.models.model, device, onFinished=self.onPrepared)
        except DiffSegError as problem:
            self._complain(str(problem))

    def onPrepared(self, problem: str) -> None:
        """The model is loaded, or cannot be: better told now than after the press."""
        if not self.open or self._isRunning():
            return
        if problem:
            self._complain(problem)
            self._tellOfEngine()
        elif self.ui.statusLabel.text == self._complaint:
            self._showInvitation()

    def _complain(self, problem: str) -> None:
        self.say(_("The engine is not ready: {reason}").format(reason=problem))
        self._complaint = self.ui.statusLabel.text

    def _tellOfEngine(self) -> None:
        if self.logic.client.pid is None:  # it is the process, not a model nor a graphics card
            self.window.tell("onEngineMissing")

    def onEngineReady(self) -> None:
        """See Panel; the model is loaded in advance, and what was said of an engine that cannot run is taken back."""
        if self._entered:
            self._prepareTimer.start()

    def onApply(self) -> None:
        """Segment, or cancel what runs."""
        if self._isRunning():
            self.ui.applyButton.enabled = False
            self.say(_("Cancelling…"))
            self.logic.cancel(self.run)
            return
        node = self.parameters
        self.line.showRunning(isWarm=self.logic.client.pid is not None)
        try:
            self.run = self.logic.segment(
                node.inputVolume,
                model=node.model,
                channels=self.channels.nodes(),
                roi=node.roi,
                steps=node.steps,
                sampler=node.sampler,
                samples=node.samples,
                seed=node.seed,
                device=node.device,
                uncertainty=node.samples > 1,
                onEvent=self.onEvent,
                onFinished=self.onFinished,
                wait=False,
            )
        except Exception as problem:  # whatever it is, the button must not stay "Cancel"
            self.run = None
            self._showIdle(str(problem) or type(problem).__name__, isError=True)
            if not isinstance(problem, DiffSegError):
                raise
            return
        self.window.tell("onRunStarted", self.run)

    def onEvent(self, event: events.Event) -> None:
        """Progress of the run."""
        if not self.open or self.run is None:
            return
        if event["event"] == "progress":
            self.line.showProgress(event)
            if not self.run.masks:
                self.say(_("The engine is at work…"))
        elif event["event"] == "warning":
            self.say(event["text"])
        elif event["event"] == "step":
            if event["step"] == 1 and self.run.node is not None and self.run.node.GetDisplayNode() is not None:
                self.run.node.GetDisplayNode().SetVisibility(True)  # an answer that was hidden to see the image
            names = {str(label.value): label.name for label in self.run.labels}
            sizes = ", ".join(f"{names[value]} {ml:.2f} ml" for value, ml in event["volumes_ml"].items())
            self.say(_("After step {step} of {steps}: {sizes}.").format(**{**event, "sizes": sizes}))
            self.window.tell("onRunStep", self.run)

    def onFinished(self, run: Segmentation) -> None:
        """The run ended: show its result, or say why there is none."""
        if not self.open or run is self._ended:  # its scene was closed meanwhile
            return
        if run.error is not None:
            text = str(run.error)
            if isinstance(run.error, EnvironmentProblem) and "Environment" not in text:
                text += " " + _("See the section Environment below.")
            self._showIdle(text, isError=not isinstance(run.error, Cancelled))
            if isinstance(run.error, EnvironmentProblem):
                self._complaint = self.ui.statusLabel.text
                self._tellOfEngine()
            if self._entered and self.logic.client.pid is None:  # it did not stop in time, and was ended
                self._prepareTimer.start()
        else:
            sizes = ", ".join(f"{name} {ml:.2f} ml" for name, ml in run.volumesMl.items())
            text = (
                _("Done: {name}: {sizes}.") if any(run.volumesMl.values()) else _("Done: nothing was found in {name}.")
            )
            done = text.format(name=run.volume.GetName(), sizes=sizes)
            self._showIdle(" ".join([done, *run.warnings]))
            if any(run.volumesMl.values()):
                cameras.look_at_what_is_there()
        self.window.tell("onRunFinished", run)

    def say(self, text: str, isError: bool = False) -> None:
        """Write the status line."""
        self.line.say(text, isError)

    def _isRunning(self) -> bool:
        return self.run is not None and not self.run.finished

    def _node(self) -> Any:
        """The node behind the parameters; None while the module is not shown."""
        return self.parameters.parameterNode if self.parameters is not None else None

    def _cancelRun(self) -> None:
        if self._isRunning():
            self.logic.cancel(self.run)

    def _updateHints(self) -> None:
        """Worked out once for each volume, model and choice of a region."""
        volume, card = self.parameters.inputVolume, self.models.card
        image = volume.GetImageData() if volume is not None else None
        channels = tuple(self.channels.nodes())
        chosen = (volume, image.GetMTime() if image is not None else 0, card, self.parameters.roi is None, channels)
        if chosen == self._hinted:
            return
        self._hinted, text = chosen, ""
        if volume is not None and card is not None:
            try:
                nodes.check_volume(volume)
                text = hints(card, volume, hasRegion=self.parameters.roi is not None, channels=channels)
            except DiffSegError as problem:
                text = str(problem)
        self.ui.hintLabel.text = WARNING + text if text else ""
        self.ui.hintLabel.visible = bool(text)

    def _showIdle(self, text: str, isError: bool = False) -> None:
        isReady = self.parameters is not None and self.parameters.inputVolume is not None
        self.line.showIdle(text, isError, isReady)

    def _showInvitation(self) -> None:
        """What to do next, where nothing has been done yet."""
        if self.parameters is None or self.parameters.inputVolume is None:
            self._showIdle(_("Load an image and choose it above, or press Load sample to try the module."))
        else:
            self._showIdle(_("Ready. Press Segment."))
