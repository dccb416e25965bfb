"""A training: a process of its own that goes on when Slicer ends, and the folder by which it is found again.

Everything known of it stands in files: `training.json` (how it was started, and which process it is), the engine's
`config.json`, `fingerprint.json` and `log.jsonl`, and what the process wrote to `stdout.txt` and `stderr.txt`. It is
asked to stop by a file called `stop`.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.scene import detached
from DiffSegLib.scene.process import engine_command, interpreter, worker_environment
from DiffSegLib.scene.run_files import kept_iterations, last_line, read_json, write
from DiffSegLib.scene.words import tr as _

RECORD = "training.json"
STOP_FILE = "stop"  # as commands.train has it
STARTING, RUNNING, STOPPING = "starting", "running", "stopping"
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
SPENT = ("--iterations", "1")  # a budget that every training has spent that has begun


class Training:
    """The training in a run folder; `update` looks at it again, everything else is what was seen then.

    state: starting, running, stopping, finished, stopped or failed, and `reason` says why. metrics: the numbers logged
    so far, as dictionaries with `iteration` and `loss`, or with `dice`, `dice_first_step` and `dice_by_class`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.state, self.reason = FAILED, ""
        self.metrics: list[events.Event] = []
        self.warnings: list[str] = []
        self._record: dict[str, Any] = {}
        self._offset, self._file = 0, 0
        self.update()

    @property
    def name(self) -> str:
        """What its model is called."""
        return str(self._record.get("name") or self.folder.name)

    @property
    def created(self) -> str:
        """When it was started first, as ISO time."""
        return str(self._record.get("created", ""))

    @property
    def active(self) -> bool:
        """Whether its process is at work."""
        return self.state in (STARTING, RUNNING, STOPPING)

    @property
    def pid(self) -> int | None:
        """The number of its process, or of its last one."""
        return self._record.get("pid")

    @property
    def model(self) -> Path | None:
        """The finished model: among one's own if it was given a name, else in the run folder."""
        for path in (self._answer().get("named"), self.folder / "model.safetensors"):
            if path and Path(path).is_file():
                return Path(path)
        return None

    @property
    def classes(self) -> list[str]:
        """The names of the structures in `dice_by_class` of the last validation; numbers where they are not known."""
        known = read_json(self.folder / "fingerprint.json").get("labels", [])
        given = self._record.get("names", {})
        names = [str(given.get(str(label.get("value")), label["name"])) for label in known]
        count = len(self.validation["dice_by_class"]) if self.validation is not None else len(names)
        return names if len(names) == count else [str(n + 1) for n in range(count)]

    @property
    def budget(self) -> tuple[bool, float]:
        """Whether it is of time, and how many minutes or iterations it has in all; 0 where that is not known."""
        known = self._record.get("budget")
        if not known:  # of a training that another version started
            asked = list(self._record.get("command", []))
            known = {o[2:]: asked[asked.index(o) + 1] for o in ("--minutes", "--iterations") if o in asked}
        known = known or read_json(self.folder / "config.json").get("training", {})
        minutes = known.get("minutes")
        return minutes is not None, float(minutes if minutes is not None else known.get("iterations", 0))

    @property
    def finishing(self) -> bool:
        """Whether it learns no more and only makes its model, as `finish` asks for."""
        return self.active and bool(self._record.get("finishing"))

    @property
    def kept(self) -> int:
        """How many iterations its last checkpoint has; 0 where there is nothing to go on from."""
        return kept_iterations(self.folder / "checkpoint")

    @property
    def spent(self) -> float:
        """How much of the budget, in its unit: minutes or iterations."""
        return self._seconds / 60.0 if self.budget[0] else float(self.iteration)

    @property
    def iteration(self) -> int:
        """Optimiser steps so far, as far as they were told."""
        return max((int(event.get("iteration", 0)) for event in self.metrics), default=0)

    @property
    def validation(self) -> events.Event | None:
        """The last validation, or None."""
        return next((event for event in reversed(self.metrics) if "dice" in event), None)

    @property
    def fraction(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        if self.state == FINISHED:
            return 1.0
        amount = self.budget[1]
        return min(self.spent / amount, 1.0) if amount > 0 else 0.0

    @property
    def secondsLeft(self) -> float | None:
        """An estimate, or None before there is one."""
        fraction = self.fraction
        return self._seconds * (1.0 - fraction) / fraction if self.active and fraction > 0 and self._seconds else None

    @property
    def said(self) -> str:
        """The last line that the process wrote for people."""
        return last_line(self.folder / "stderr.txt")

    def update(self) -> list[events.Event]:
        """Look at the folder again and return the events that are new in its log."""
        record = read_json(self.folder / RECORD)
        if record.get("launched") != self._record.get("launched"):  # by this Slicer or another one
            self._forget()
        self._record = record
        pid, known = record.get("pid"), record.get("identity")
        alive = pid is not None and known is not None and detached.identity(pid) == known
        fresh = self._read_log()  # after the question, so that an ended process has told everything
        if alive:
            begun = RUNNING if (self.folder / "config.json").is_file() else STARTING
            self.state, self.reason = STOPPING if (self.folder / STOP_FILE).exists() else begun, ""
        else:
            self.state, self.reason = self._outcome()
        return fresh

    def stop(self) -> None:
        """Ask it to end in good order, at the next iteration or window; it can be resumed."""
        self.update()
        if self.active:
            write(self.folder / STOP_FILE, "")
            self.state = STOPPING

    def kill(self) -> None:
        """End it at once; what came after its last checkpoint is lost."""
        self.update()
        if self.active and self.pid:
            detached.end(self.pid)

    def resume(self, minutes: float | None = None, iterations: int | None = None) -> None:
        """Go on where it ended, with another budget (in all) if one is given.

        Raises InputError while it runs. A training that ended before its first iteration starts anew.
        """
        self.update()
        if self.active:
            raise InputError(_("{name} is training already; stop it first.").format(name=self.name))
        if not self._record:
            text = _("{folder}: holds no training that was started here ({file} is missing).")
            raise InputError(text.format(folder=self.folder, file=RECORD))
        options = list(self._record["options"])
        if (self.folder / "config.json").is_file():
            if minutes is None and iterations is None:
                byTime, amount = self.budget
                minutes, iterations = (amount, None) if byTime else (None, int(amount))
            options += ["--resume", *_budget(minutes, iterations)]
        else:
            options += [*self._record["first"], *_budget(minutes, iterations)]
        if minutes is not None or iterations is not None:
            self._record["budget"] = {"minutes": minutes, "iterations": iterations}
        self._launch(options)

    def finish(self) -> None:
        """Make the model of what a training that has ended early learnt so far; it can go on from there later.

        Raises InputError while it runs, and where there is nothing yet.
        """
        self.update()
        if self.active:
            raise InputError(_("{name} is training already; stop it first.").format(name=self.name))
        if not self.kept:
            text = _("{name} was stopped before it had learnt anything; there is no model to make.")
            raise InputError(text.format(name=self.name))
        byTime, amount = self.budget
        self._record["budget"] = {"minutes": amount} if byTime else {"iterations": int(amount)}  # which it keeps
        self._launch([*self._record["options"], "--resume", *SPENT], finishing=True)

    def wait(self, seconds: float | None = None, onEvent: events.Listener = events.silent) -> str:
        """Block until it has ended, or for so many seconds, and return the state; needs no event loop."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            for event in self.update():
                onEvent(event)
            if not self.active or (deadline is not None and time.monotonic() > deadline):
                return self.state
            time.sleep(0.2)

    def problem(self) -> DiffSegError | None:
        """What to raise for a training that failed or was stopped."""
        kind = {2: InputError, 3: EnvironmentProblem}.get(int(self._answer().get("exit_code", 1)), DiffSegError)
        return {FAILED: kind(self.reason), STOPPED: Cancelled(self.reason)}.get(self.state)

    def _launch(self, options: Sequence[str], finishing: bool = False) -> None:
        python = interpreter()
        command = engine_command(python, "train", *options, "--json")
        with contextlib.suppress(FileNotFoundError):
            (self.folder / STOP_FILE).unlink()
        output = [self.folder / name for name in ("stdout.txt", "stderr.txt")]
        for path in output:
            write(path, "")
        pid = detached.launch(command, worker_environment(python), *output)
        self._record |= {"pid": pid, "identity": detached.identity(pid), "launched": time.time(), "command": command}
        self._record["finishing"] = finishing
        write(self.folder / RECORD, json.dumps(self._record, indent=1))
        self._forget()
        self.update()

    def _forget(self) -> None:
        self._offset, self._file = 0, 0
        self.metrics.clear()
        self.warnings.clear()

    def _read_log(self) -> list[events.Event]:
        """The new lines; all of them where the file was written anew, as a resumed training does."""
        fresh = []
        with contextlib.suppress(OSError), open(self.folder / "log.jsonl", "rb") as file:
            seen = os.fstat(file.fileno())
            if seen.st_size < self._offset or seen.st_ino != self._file:
                self._forget()
                self._file = seen.st_ino
            file.seek(self._offset)
            data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            fresh = [event for event in map(events.from_line, whole.splitlines()) if event is not None]
        self.metrics += [event for event in fresh if event["event"] == "metric"]
        self.warnings += [str(event["text"]) for event in fresh if event["event"] == "warning"]
        return fresh

    @property
    def _seconds(self) -> float:
        return max((float(event.get("seconds", 0.0)) for event in self.metrics), default=0.0)

    def _outcome(self) -> tuple[str, str]:
        """How the process ended: by its answer on stdout, which one that was killed does not give."""
        answer = self._answer()
        if answer.get("exit_code") == 0:
            return FINISHED, str(answer.get("warning", ""))
        if answer.get("exit_code") == 4:
            return STOPPED, str(answer.get("error", ""))
        if "error" in answer:
            return FAILED, str(answer["error"])
        last = [_("It last said: {line}").format(line=self.said)] if self.said else []
        return FAILED, " ".join([_("The training's process ended unexpectedly."), *last])

    def _answer(self) -> dict[str, Any]:
        try:
            answer = json.loads(last_line(self.folder / "stdout.txt"))
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}


def begin(
    folder: Path, data: Path, name: str, options: Sequence[str], first: Sequence[str], known: Mapping[str, Any]
) -> Training:
    """Start a training in `folder`. options: of `diffseg train`, for a resumed one as well; first: those that are not.

    known: what is to be told of it before its process has written anything: `budget`, with minutes or iterations, and
    `names`, by label value. Raises InputError where the folder holds a training already, or cannot be written.
    """
    if (folder / "config.json").exists() or Training(folder).active:
        text = _("{folder}: already holds a training; resume it, or choose another name or folder.")
        raise InputError(text.format(folder=folder))
    record = {
        "name": name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "options": ["--data", str(data), "--out", str(folder), *options],
        "first": list(first),
        **known,
    }
    write(folder / RECORD, json.dumps(record, indent=1))
    training = Training(folder)
    training._launch([*training._record["options"], *first])
    return training


def _budget(minutes: float | None, iterations: int | None) -> list[str]:
    if minutes is not None:
        return ["--minutes", str(minutes)]
    return [] if iterations is None else ["--iterations", str(iterations)]
