"""Write the pictures of the module's window in docs/images: the real forms, off screen, with the sample segmented and a
small made-up data set trained on, in a folder that is removed again.

    python Testing/tools/module_pictures.py

The widgets of CTK and Slicer are plain stand-ins (Testing/host/widgets); inside Slicer they look like Slicer's.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
WORK = tempfile.TemporaryDirectory()
os.environ["DIFFSEG_HOME"] = WORK.name  # nothing of the picture's training is kept, nor shown of one's own
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

from conftest import make_dataset  # noqa: E402
from DiffSegLib.models.shipped import home  # noqa: E402 - found by the line above
from host.application import Host  # noqa: E402

OPEN = {  # picture -> the sections that are open in it
    "module": ("segmentPanel", "stepsPanel"),
    "module-train": ("trainPanel",),
    "module-trainings": ("trainingsPanel",),
    "module-evaluate": ("evaluatePanel",),
    "module-environment": ("environmentPanel",),
}
WIDTH = 440
ITERATIONS = 60  # of the training


def main() -> None:
    """Segment the sample, then open one section after the other."""
    host = Host()
    from DiffSegLib.scene import sample_data

    window = host.open()
    volume = sample_data.load()
    window.segmentPanel.ui.inputSelector.setCurrentNode(volume)
    window.segmentPanel.ui.applyButton.click()
    run = window.segmentPanel.run
    host.wait_for(lambda: run.finished, 120)
    window.stepsPanel.ui.stepSlider.value = 2
    window.environmentPanel.onCheck()
    host.wait_for(lambda: window.environmentPanel.ui.checkButton.enabled)
    facts = window.environmentPanel.ui.factsText  # of a user's computer, not of the one that draws
    facts.plainText = facts.plainText.replace(sys.executable, "/home/me/Slicer/bin/PythonSlicer").replace(
        str(home()), "/home/me/.local/share/DiffSeg"
    )
    window.evaluatePanel.parameters.evaluatePrediction = window.evaluatePanel.parameters.evaluateReference = run.node
    for picture in ("module", "module-evaluate", "module-environment"):
        grab(host, window, picture)
    train(host, window)
    host.close()
    window.logic.client.shutdown()


def grab(host, window, picture) -> None:
    """The window with the sections of `picture` open."""
    import ctk  # there is one as soon as there is a host

    sections = [getattr(window, name) for name in OPEN[picture]]
    for panel in window.panels:
        for index, button in enumerate(panel.root.findChildren(ctk.ctkCollapsibleButton)):
            button.collapsed = panel not in sections or index > 0
    parent = host._windows[-1][0]
    parent.setFixedWidth(WIDTH)
    parent.show()
    for _ in range(3):  # what was opened says its size only after it was laid out
        host.qt.processEvents()
        parent.layout().invalidate()
        parent.setFixedHeight(parent.layout().sizeHint().height() + 20)
        host.qt.processEvents()
    parent.grab().save(str(ROOT / "docs" / "images" / f"{picture}.png"))


def train(host, window) -> None:
    """Check a data set, and begin to train on it."""
    ui = window.trainPanel.ui
    data = make_dataset(Path(WORK.name) / "livers", 10)
    ui.trainFolderPathLineEdit.currentPath = str(data)
    ui.trainNameLineEdit.text = "my livers"
    ui.trainBudgetComboBox.currentIndex = 1
    ui.trainAmountSpinBox.value = ITERATIONS
    ui.trainCheckButton.click()
    host.wait_for(lambda: ui.trainStartButton.enabled, 60)
    ui.trainFolderPathLineEdit.blockSignals(True)
    ui.trainFolderPathLineEdit.currentPath = "/home/me/livers"  # as on a user's computer
    grab(host, window, "module-train")
    ui.trainFolderPathLineEdit.currentPath = str(data)
    ui.trainFolderPathLineEdit.blockSignals(False)
    ui.trainStartButton.click()
    host.wait_for(lambda: window.trainingsPanel.ui.trainingProgressBar.value > 20, 300)
    grab(host, window, "module-trainings")


if __name__ == "__main__":
    main()
