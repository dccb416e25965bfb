"""Events for a person at a terminal: a progress line that rewrites itself, warnings and logs on lines of their own."""

import sys
import time
from typing import TextIO

from DiffSegLib import events


class Show:
    """A listener that writes to stderr; without a terminal a progress line appears every ten seconds only."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.next_line = 0.0
        self.open_line = False

    def __call__(self, event: events.Event) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "progress":
            self._progress(event)
        elif kind == "warning":
            self._line(f"Warning: {event['text']}")
        elif kind == "log":
            self._line(str(event["text"]))
        elif kind == "metric" and "dice" in event:
            by_class = ", ".join(f"{x:.3f}" for x in event["dice_by_class"])
            text = f"iteration {event['iteration']}: validation Dice {event['dice']:.4f} ({by_class})"
            self._line(f"{text}, at the first step {event['dice_first_step']:.4f}")

    def close(self) -> None:
        """End an open progress line."""
        if self.open_line:
            self.stream.write("\n")
            self.open_line = False

    def _progress(self, event: events.Event) -> None:
        text = f"{100 * event['fraction']:3.0f} %  {event['text']}"
        if self.terminal:
            self.stream.write(f"\r\033[K{text[:110]}")
            self.open_line = True
        elif time.monotonic() >= self.next_line:
            self.stream.write(text + "\n")
            self.next_line = time.monotonic() + 10.0
        self.stream.flush()

    def _line(self, text: str) -> None:
        self.close()
        self.stream.write(text + "\n")
        self.stream.flush()
