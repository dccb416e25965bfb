"""The section that says whether the engine can run here, and mends it."""

from pathlib import Path

import ctk
import qt
from slicer.i18n import tr as _

from DiffSegLib.errors import DiffSegError
from DiffSegLib.models.shipped import home
from DiffSegLib.scene import environment, settings
from DiffSegLib.scene.panels.panel import Panel

WAIT = 1000  # ms between two looks whether the running job has ended


class EnvironmentPanel(Panel):
    """Checks when it is opened for the first time, or when asked to."""

    form = "Environment"

    def setup(self) -> None:
        """See Panel."""
        self.report, self._isTold = environment.Report(), False
        self.connect(self.ui.environmentCollapsibleButton, "contentsCollapsed(bool)", self.onCollapsed)
        self.connect(self.ui.checkButton, "clicked(bool)", self.onCheck)
        self.connect(self.ui.installButton, "clicked(bool)", self.onInstall)
        self.connect(self.ui.copyReportButton, "clicked(bool)", self.onCopy)
        self.connect(self.ui.offlineButton, "clicked(bool)", self.onOffline)
        self.connect(self.ui.modelsFolderButton, "clicked(bool)", self.onModelsFolder)
        # the python of an environment is a link to another one, which does not know the environment's packages
        self.ui.pythonPathLineEdit.options = ctk.ctkPathLineEdit.DontResolveSymlinks
        self.ui.pythonPathLineEdit.currentPath = settings.get(environment.PYTHON_KEY)
        self.connectPath(self.ui.pythonPathLineEdit, self.onPython)
        self._again = self.after(WAIT, lambda: self.onPython(self.ui.pythonPathLineEdit.currentPath))

    @property
    def requirements(self) -> Path:
        """The file of what the engine needs."""
        return Path(self.window.resourcePath("requirements.txt"))

    def onCollapsed(self, collapsed: bool) -> None:
        """Check when the section is opened and nothing is known yet."""
        if not collapsed and not self.report.facts:
            self.onCheck()

    def onEngineMissing(self) -> None:
        """See Panel; the section opens by itself, once: whoever starts anew would not look for it at the bottom."""
        if not self._isTold:
            self._isTold = True
            self.ui.environmentCollapsibleButton.collapsed = False

    def onCheck(self) -> None:
        """Ask the engine; the answer comes later."""
        self.ui.checkButton.enabled = False
        isBusy = self.logic.client.busy
        text = _("Waiting for what the engine is doing…") if isBusy else _("Asking the engine…")
        self.ui.environmentStatusLabel.text = text
        self.report = environment.describe(self.logic.client, self.requirements, self.onReport)

    def onReport(self, report: environment.Report) -> None:
        """The engine answered, or could not."""
        if not self.open:
            return
        self.report = report
        self.ui.checkButton.enabled = True
        self.ui.factsText.plainText = "\n".join(f"{title}: {value}" for title, value in report.facts.items())
        self.ui.environmentStatusLabel.text = report.problem or _("The engine is ready.")
        if not report.problem:
            self.window.tell("onEngineReady")

    def onPython(self, path: str) -> None:
        """Run the engine with another Python."""
        if path == settings.get(environment.PYTHON_KEY):
            return
        if self.logic.client.busy:  # to try a program would hold up the window that follows the job
            self.ui.environmentStatusLabel.text = _("The new Python is tried once the running job has ended.")
            self._again.start()
            return
        try:
            environment.choose_python(path)
        except DiffSegError as problem:
            self.ui.environmentStatusLabel.text = str(problem)
            return
        self.logic.client.shutdown()
        self.onCheck()

    def onInstall(self) -> None:
        """Install what is missing or damaged; Slicer asks for consent and shows the progress."""
        if self.logic.client.busy:
            self.ui.environmentStatusLabel.text = _("A job is running; install once it has ended.")
            return
        if any(training.active for training in self.logic.trainings()):  # it may run with the same Python
            self.ui.environmentStatusLabel.text = _("A training is running; install once it has ended or is stopped.")
            return
        self.ui.environmentStatusLabel.text = _("Installing…")
        try:
            environment.install(self.requirements, self.logic.client, repair=bool(self.report.problem))
        except DiffSegError as problem:
            self.ui.environmentStatusLabel.text = str(problem)
            return
        self.onCheck()

    def onOffline(self) -> None:
        """Show how to install without internet."""
        self.ui.factsText.plainText = environment.offline_instructions(self.requirements)

    def onCopy(self) -> None:
        """Put everything that a bug report needs on the clipboard."""
        qt.QApplication.clipboard().setText(self.report.text())
        self.ui.environmentStatusLabel.text = _("Copied. Paste it into your report; it names no image and no patient.")

    def onModelsFolder(self) -> None:
        """Open the folder of one's own models in the system's file manager."""
        folder = home() / "models"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            text = _("{folder}: cannot be made ({reason}).")
            self.ui.environmentStatusLabel.text = text.format(folder=folder, reason=problem.strerror or problem)
            return
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))
