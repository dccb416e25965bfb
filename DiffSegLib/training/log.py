"""What a training tells: `log.jsonl`, a line each, and its numbers as TensorBoard events where that is installed."""

import math
import time
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.whole_files import write_text

CLOCKS = ("seconds", "seconds_left")
SHOW_EVERY = 1.0  # seconds between two progress events


class Log:
    """Appends events to `run/log.jsonl` and passes them on; what stands there from beyond `iteration` is taken out.

    So the file of a training that was killed and resumed from an earlier checkpoint tells one story. One that is not
    active (in the second and further processes of a training) does nothing.
    """

    def __init__(self, run: Path, listener: events.Listener, iteration: int, active: bool = True) -> None:
        self.path, self.listener, self.active = run / "log.jsonl", listener, active
        self.shown, self.is_told = -math.inf, False
        self.board: Any = None
        if not active:
            return
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            found = [(line, events.from_line(line)) for line in lines if line.endswith("\n")]  # the last may be cut off
            places = [(line, event.get("iteration", 0)) for line, event in found if event]
            kept = [line for line, place in places if isinstance(place, int) and place <= iteration]
            write_text(self.path, "".join(kept))
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(run), purge_step=iteration + 1)
        except ImportError:
            pass

    def __call__(self, event: events.Event) -> None:
        """Write one event, and tell it."""
        if not self.active:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(events.to_line(event) + "\n")
        except OSError as problem:
            if not self.is_told:
                text = f"cannot be written ({problem.strerror}); training goes on, and lines are missing there"
                self.listener(events.make("warning", text=f"{self.path}: {text}."))
            self.is_told = True
        if self.board is not None and event["event"] == "metric":
            for name, value in event.items():
                if name in CLOCKS:
                    continue
                for n, number in enumerate(value if isinstance(value, list) else [value], start=1):
                    if isinstance(number, float):
                        tag = f"{name}/{n}" if isinstance(value, list) else name
                        self.board.add_scalar(tag, number, event["iteration"])
        self.listener(event)

    def progress(self, fraction: float, text: str) -> None:
        """Tell how far the training is, at most once a second; this is not written."""
        if self.active and time.monotonic() - self.shown >= SHOW_EVERY:
            self.shown = time.monotonic()
            self.listener(events.make("progress", fraction=min(fraction, 1.0), text=text))

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        if self.board is not None:
            self.board.close()
