"""Write the pictures of the module's window in docs/images: the real forms, off screen, with the sample segmented.

    python Testing/tools/module_pictures.py

The widgets of CTK and Slicer are plain stand-ins (Testing/host/widgets); inside Slicer they look like Slicer's.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

from DiffSegLib.models.shipped import home  # noqa: E402 - found by the line above
from host.application import Host  # noqa: E402

OPEN = {  # picture -> the sections that are open in it
    "module": ("segmentPanel", "stepsPanel"),
    "module-train": ("trainPanel",),
    "module-evaluate": ("evaluatePanel",),
    "module-environment": ("environmentPanel",),
}
WIDTH = 440


def main() -> None:
    """Segment the sample, then open one section after the other."""
    host = Host()
    import ctk  # there is one as soon as there is a host

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
    parent = host._windows[-1][0]
    parent.setFixedWidth(WIDTH)
    for picture, names in OPEN.items():
        sections = [getattr(window, name) for name in names if hasattr(window, name)]
        if not sections:
            continue
        for panel in window.panels:
            for index, button in enumerate(panel.root.findChildren(ctk.ctkCollapsibleButton)):
                button.collapsed = panel not in sections or index > 0
        parent.show()
        for _ in range(3):  # what was opened says its size only after it was laid out
            host.qt.processEvents()
            parent.layout().invalidate()
            parent.setFixedHeight(parent.layout().sizeHint().height() + 20)
            host.qt.processEvents()
        parent.grab().save(str(ROOT / "docs" / "images" / f"{picture}.png"))
    host.close()
    window.logic.client.shutdown()


if __name__ == "__main__":
    main()
