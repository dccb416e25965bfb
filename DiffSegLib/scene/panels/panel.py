"""What every section of the window is: a form, its parameters, and what it hears of the other sections."""

from typing import TYPE_CHECKING, Any

import qt
import slicer
import slicer.util

from DiffSegLib.scene.logic import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Window(Protocol):
        """What a section may ask of the window that it stands in."""

        logic: Any
        parameterNode: Any

        def resourcePath(self, name: str) -> str:
            """The path of a file in Resources."""

        def tell(self, what: str, *values: Any) -> None:
            """Call the method `what` of every section."""


PAUSE = 700  # ms without another letter after which a typed path is taken for whole


class Panel:
    """A section of the module's window, made from Resources/UI/<form>.ui.

    Widgets of the form with the property SlicerParameterName follow the parameter node by themselves. A subclass keeps
    no state beyond what it shows.
    """

    form = ""

    def __init__(self, window: "Window") -> None:
        self.window = window
        self.open = True
        self.root = slicer.util.loadUI(window.resourcePath(f"UI/{self.form}.ui"))
        self.ui = slicer.util.childWidgetVariables(self.root)
        self.root.setMRMLScene(slicer.mrmlScene)
        self._tag: Any = None
        self._pauses: list[Any] = []
        self.setup()

    @property
    def parameters(self) -> Any:
        """The parameter node's wrapper, or None while the module is not shown."""
        return self.window.parameterNode

    @property
    def logic(self) -> Any:
        """The module's logic."""
        return self.window.logic

    def setup(self) -> None:
        """Connect the form's signals; cheap, and without torch."""

    def connectParameters(self, node: Any) -> None:
        """Follow `node`."""
        self._tag = node.connectGui(self.ui)
        self.updateFromParameters()

    def disconnectParameters(self, node: Any) -> None:
        """Follow `node` no more."""
        if self._tag is not None:
            node.disconnectGui(self._tag)
            self._tag = None

    def updateFromParameters(self) -> None:
        """The parameters changed: follow those that no connector serves."""

    def onEnter(self) -> None:
        """The user opens the module; setup alone is also called where nobody will see it."""

    def onExit(self) -> None:
        """The user leaves the module; what runs goes on."""

    def cleanup(self) -> None:
        """The window is closed for good; nothing of the form may be touched afterwards."""
        self.open = False
        for timer in self._pauses:
            timer.stop()

    def onSceneClosing(self) -> None:
        """The scene's nodes are about to go."""

    def onSceneClosed(self) -> None:
        """There is a new, empty scene."""

    def onVolumesChanged(self) -> None:
        """A volume came into the scene while the module is open."""

    def onRunStarted(self, run: Segmentation) -> None:
        """A segmentation was started in this window."""

    def onRunStep(self, run: Segmentation) -> None:
        """The mask of one more step is there (run.masks)."""

    def onRunFinished(self, run: Segmentation) -> None:
        """The segmentation ended; run.error tells of a failure."""

    def onTrainingStarted(self, training: Any) -> None:
        """A training was started in this window (scene.training.Training)."""

    def onModelsChanged(self, path: str | None = None) -> None:
        """A model was added, removed or trained; `path` is the one that is new."""

    def onModelWanted(self, path: str) -> None:
        """The user wants to segment with this model."""

    def onEngineReady(self) -> None:
        """The engine was looked at and can run, perhaps since a moment ago or with another Python."""

    def onEngineMissing(self) -> None:
        """The engine's process cannot run, as where a package is missing."""

    def connect(self, sender: Any, signal: str, slot: Any) -> None:
        """Connect, and fail loudly: PythonQt's connect only returns False for a misspelt signal."""
        if not sender.connect(signal, slot):
            raise RuntimeError(f"There is no signal {signal}.")

    def connectPath(self, line: Any, slot: "Callable[[str], None]") -> None:
        """Call `slot` with the path of a ctkPathLineEdit once it is typed: its signals come with every letter.

        An emptied line is no path, and told of by the second signal only.
        """
        timer = self.after(PAUSE, lambda: slot(line.currentPath))
        self.connect(line, "currentPathChanged(QString)", lambda _path: timer.start())
        self.connect(line, "validInputChanged(bool)", lambda _isPath: timer.start())

    def after(self, pause: int, slot: "Callable[[], None]") -> Any:
        """A timer that calls `slot` once, `pause` ms after its start, and stops with the panel.

        To be kept and started again: Slicer keeps every timer of QTimer.singleShot until the application ends.
        """
        timer = qt.QTimer()
        timer.setSingleShot(True)
        timer.setInterval(pause)
        self.connect(timer, "timeout()", slot)
        self._pauses.append(timer)
        return timer
