"""How a run is told: its button that becomes Cancel, its bar with step, window and time left, its line of text."""

import time
from typing import Any

from slicer.i18n import tr as _

from DiffSegLib import events

WARNING = "⚠ "
FIRST_GUESS = 3.0  # seconds after which it can be said how long a run will take


class RunLine:
    """The widgets applyButton, progressBar and statusLabel of the form."""

    form = "Segment"

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._began = time.monotonic()

    def say(self, text: str, isError: bool = False) -> None:
        """Write the line; `text` is why something was not done if `isError`."""
        self.ui.statusLabel.text = WARNING + _("Not done: {reason}").format(reason=text) if isError else text

    def warn(self, text: str) -> None:
        """Write a warning, if there is a text, beside one that stands there already."""
        if text:
            former = self.ui.statusLabel.text
            self.ui.statusLabel.text = f"{former} {text}" if former.startswith(WARNING) else WARNING + text

    def showRunning(self, isWarm: bool) -> None:
        """A run begins; isWarm: the engine's process is there already."""
        self._began = time.monotonic()
        self.ui.applyButton.text = _("Cancel")
        self.ui.progressBar.value = 0
        self.ui.progressBar.format = ""
        self.ui.progressBar.visible = True
        self.say(_("The engine reads the volume…") if isWarm else _("The engine is starting…"))

    def showIdle(self, text: str, isError: bool = False, isReady: bool = True) -> None:
        """Nothing runs; isReady: the button can be pressed."""
        self.ui.applyButton.text = _("Segment")
        self.ui.applyButton.enabled = isReady
        self.ui.progressBar.visible = False
        self.say(text, isError)

    def showProgress(self, event: events.Event) -> None:
        """A `progress` event of a run."""
        text = _("Step {step} of {steps}, window {window} of {windows}")
        if event["samples"] > 1:
            text = _("Sample {sample} of {samples}, step {step} of {steps}, window {window} of {windows}")
        text, fraction = text.format(**event), event["fraction"]
        elapsed = time.monotonic() - self._began
        if elapsed > FIRST_GUESS and fraction > 0:
            text += ", " + _left(elapsed * (1.0 - fraction) / fraction)
        self.ui.progressBar.value = int(100 * fraction)
        self.ui.progressBar.format = text


def _left(seconds: float) -> str:
    if seconds < 90:
        return _("about {seconds} s left").format(seconds=max(1, round(seconds)))
    return _("about {minutes} min left").format(minutes=round(seconds / 60))
