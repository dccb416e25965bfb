"""Data on their way to a training: cases of the scene written one at a turn, then looked through by the worker."""

import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from DiffSegLib import events
from DiffSegLib.errors import Cancelled, DiffSegError, InputError
from DiffSegLib.scene import dataset, detached
from DiffSegLib.scene.trainings import TrainingPlan
from DiffSegLib.scene.words import tr as _

PREPARED = ".prepared-"  # folders of cases that no training has taken yet, by the number of their Slicer


class Preparation:
    """One data set at a time. While `writing`, `turn` must be called now and then: Slicer stays usable in between.

    finished: gets the plan once it is there; its `problems` are those of the scene, then those of the files.
    """

    def __init__(self, logic: Any, listener: events.Listener, finished: Callable[[TrainingPlan], None]) -> None:
        self.logic, self.listener, self.finished = logic, listener, finished
        self.scene = dataset.SceneData()
        self._wish: tuple[str, Sequence[str], float] = ("default", (), 8.0)
        self._export: Iterator[int] | None = None
        self._running: TrainingPlan | None = None
        self._written: tuple[Any, Path] | None = None  # state of the scene's cases, and the folder that has them

    @property
    def writing(self) -> bool:
        """Whether cases of the scene are still to be written."""
        return self._export is not None

    @property
    def busy(self) -> bool:
        """Whether a plan is under way."""
        return self.writing or self._running is not None

    def propose(
        self, source: Path | list[dataset.Pair], preset: str, assignments: Sequence[str], memory: float
    ) -> None:
        """Plan a training on a folder or on cases of the scene; what was written of these before is used again."""
        self._wish = (preset, assignments, memory)
        if isinstance(source, Path):
            self.scene = dataset.SceneData()
            self._plan(source)
            return
        state = dataset.state_of(source)
        if self._written is not None and self._written[0] == state and self._written[1].is_dir():
            self._plan(self._written[1])
            return
        self.discard()
        self.scene = dataset.check(source)
        if len(self.scene.cases) < 2:
            plan = TrainingPlan("", problems=self.scene.problems, finished=True)
            self.finished(plan)
            return
        self._written = (state, self._folder())
        self._export = dataset.export(self.scene, self._written[1], "scene")

    def turn(self) -> None:
        """Write one more case, and hand over to the worker after the last one."""
        if self._export is None or self._written is None:
            return
        try:
            done = next(self._export)
        except StopIteration:
            self._export = None
            self._plan(self._written[1])
            return
        except DiffSegError as problem:
            self._fail(problem)
            return
        except Exception as problem:  # a generator that has raised ends as if all were written
            traceback.print_exc()
            text = _("The cases could not be written ({kind}: {reason}).")
            self._fail(DiffSegError(text.format(kind=type(problem).__name__, reason=problem)))
            return
        text = _("writing case {done} of {count}").format(done=done, count=len(self.scene.cases))
        self.listener(events.make("progress", fraction=0.0, text=text))

    def cancel(self) -> None:
        """Stop what is under way; the plan ends with Cancelled."""
        if self._export is not None:
            self._fail(Cancelled(_("The check was cancelled.")))
        elif self._running is not None:
            self.logic.client.cancel(self._running.number)

    def take(self, folder: Path) -> Path:
        """Move the cases of the scene into a training's folder and return where they are.

        Raises InputError where the scene has changed since they were written.
        """
        if self._written is None or dataset.state_of(self.scene.pairs) != self._written[0]:
            raise InputError(_("The scene has changed since it was checked; check it again."))
        target = folder / "data"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(self._written[1], target)
        except OSError as problem:
            reason = problem.strerror or problem
            text = _("{folder}: cannot be written ({reason}). Choose another folder for the trainings.")
            raise InputError(text.format(folder=target, reason=reason)) from None
        self._written = None
        return target

    def discard(self) -> None:
        """Remove what was written and never used."""
        self._export = None
        if self._written is not None:
            shutil.rmtree(self._written[1], ignore_errors=True)
            self._written = None

    def _plan(self, folder: Path) -> None:
        preset, assignments, memory = self._wish

        def done(plan: TrainingPlan) -> None:
            self._running = None
            plan.problems[:0] = self.scene.problems
            plan.warnings[:0] = self.scene.warnings
            self.finished(plan)

        self._running = self.logic.planTraining(
            folder, preset, assignments, memory, onEvent=self.listener, onFinished=done, wait=False
        )

    def _fail(self, problem: DiffSegError) -> None:
        self.discard()
        self.finished(TrainingPlan("", error=problem, finished=True))

    def _folder(self) -> Path:
        """A new folder among the trainings; those of a Slicer that has crashed are removed."""
        root = self.logic.trainingsFolder
        for old in root.glob(f"{PREPARED}*") if root.is_dir() else []:
            number = old.name.removeprefix(PREPARED).partition("-")[0]
            if not number.isdecimal() or detached.identity(int(number)) is None:
                shutil.rmtree(old, ignore_errors=True)
        return root / f"{PREPARED}{os.getpid()}-{id(self)}"
