"""Training from the scene or a folder: what the window's sections, the console and a batch script all call."""

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

from DiffSegLib import config, events
from DiffSegLib.errors import Cancelled, DiffSegError, EnvironmentProblem, InputError
from DiffSegLib.jobs import PlanJob
from DiffSegLib.labels import labels_from_names
from DiffSegLib.models.library import check_name
from DiffSegLib.models.shipped import home
from DiffSegLib.scene import dataset, settings
from DiffSegLib.scene.process import WorkerClient, call
from DiffSegLib.scene.training import RECORD, Training, begin
from DiffSegLib.scene.words import tr as _
from DiffSegLib.whole_files import write_text

FOLDER_KEY, RUNS_KEY = "TrainingsFolder", "Trainings"
REMEMBERED = 100  # run folders outside of the trainings' folder that are remembered
INTERVAL = 1000  # ms between two looks at a training that somebody listens to
_numbers = itertools.count(1)
_followed: set[Any] = set()  # timers of trainings that are listened to, until these end

OnTrained = Callable[[Training], None]


@dataclass
class TrainingPlan:
    """What a training would be. config: None where the data allow none; problems: sentences on bad cases.

    reasons: why, by key of the configuration. `error` tells of a failure.
    """

    number: str
    config: dict[str, Any] | None = None
    text: str = ""
    reasons: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    trainingCases: int = 0
    validationCases: int = 0
    fingerprint: dict[str, Any] = field(default_factory=dict)
    error: DiffSegError | None = None
    finished: bool = False


class TrainLogic:
    """Plans, starts and finds trainings; stands beside SegmentLogic, whose worker it plans with."""

    client: WorkerClient

    def train(
        self,
        data: Any,
        run: str | Path | None = None,
        *,
        name: str | None = None,
        preset: str = "default",
        configuration: Mapping[str, Any] | None = None,
        assignments: Sequence[str] = (),
        minutes: float | None = None,
        iterations: int | None = None,
        seed: int | None = None,
        memory: float = 8.0,
        skipBad: bool = False,
        device: str = "auto",
        names: Mapping[int, str] | None = None,
        onEvent: events.Listener = events.silent,
        onFinished: OnTrained | None = None,
        wait: bool = False,
    ) -> Training:
        """Train on a labelled folder, or on a list of (volume node, segmentation node), in a process of its own.

        The process goes on when the scene is closed and when Slicer ends; `trainings` finds it again. `run` is the
        folder of the training, by default a new one among the others; with `name` the finished model is put among
        one's own and can be named in `segment`. Spacing, patch and network follow from the data unless `assignments`
        ("training.batch=2") or `configuration` (as config.json) say otherwise. skipBad: train without cases that have
        problems instead of refusing. names: value -> name of every structure, where the folder has none of its own.

        With `wait` the call blocks until the training has ended, and raises DiffSegError if it failed. Without, the
        events arrive through `onEvent` where Slicer's event loop runs, else whenever `Training.update` is called.
        """
        if minutes is not None and iterations is not None:
            raise InputError(_("minutes and iterations are both given; a training has one budget."))
        folder = Path(run) if run else self._newFolder(name or _name_of(data))
        if name is not None:
            check_name(name)
        wish, _open = config.choose(preset, configuration, list(assignments))  # better told now than later
        options = ["--memory", f"{memory:g}", "--device", device, *["--skip-bad"] * skipBad]
        options += ["--name", name] if name else []
        if not isinstance(data, (str, Path)):
            data = self._export(list(data), folder, skipBad)
        if (Path(data) / dataset.SEGMENTS_FILE).is_file():
            options += ["--labels", str(Path(data) / dataset.SEGMENTS_FILE)]
        elif not Path(data).is_dir():
            raise InputError(_("{folder}: there is no such folder.").format(folder=data))
        elif names:
            labels = [label.to_json() for label in labels_from_names(names)]
            write_text(folder / dataset.SEGMENTS_FILE, json.dumps(labels, indent=1))
            options += ["--labels", str(folder / dataset.SEGMENTS_FILE)]
        first = ["--set", *assignments] if assignments else []
        first += ["--minutes", f"{minutes:g}"] if minutes is not None else []
        first += ["--iterations", str(iterations)] if iterations is not None else []
        first += ["--seed", str(seed)] if seed is not None else []
        if configuration is None:
            first += ["--preset", preset]
        else:
            write_text(folder / "settings.json", config.to_text(configuration))
            first += ["--config", str(folder / "settings.json")]
        known: dict[str, Any] = {"names": {str(value): text for value, text in names.items()}} if names else {}
        known["budget"] = _budget(wish.training, minutes, iterations)
        training = begin(folder, Path(data).resolve(), name or folder.name, options, first, known)
        self._remember(folder)
        if wait:
            training.wait(onEvent=onEvent)
            problem = training.problem()
            if problem is not None:
                raise problem
            if onFinished is not None:
                onFinished(training)
        else:
            _follow(training, onEvent, onFinished)
        return training

    def trainings(self) -> list[Training]:
        """Every training that is known here, the newest first: those in the trainings' folder, and remembered ones."""
        folders = [Path(text) for text in _remembered()]
        root = self.trainingsFolder
        if root.is_dir():
            folders += [path for path in root.iterdir() if path.is_dir()]
        found = {folder.resolve(): folder for folder in folders if (folder / RECORD).is_file()}
        return sorted((Training(folder) for folder in found), key=lambda each: each.created, reverse=True)

    @property
    def trainingsFolder(self) -> Path:
        """Where new trainings are put, each into a folder of its own."""
        return Path(settings.get(FOLDER_KEY) or home() / "trainings")

    @trainingsFolder.setter
    def trainingsFolder(self, folder: str | Path) -> None:
        settings.put(FOLDER_KEY, str(folder) if str(folder) not in ("", ".") else "")

    def planTraining(
        self,
        data: str | Path,
        preset: str = "default",
        assignments: Sequence[str] = (),
        memory: float = 8.0,
        onEvent: events.Listener = events.silent,
        onFinished: Callable[[TrainingPlan], None] | None = None,
        wait: bool = True,
    ) -> TrainingPlan:
        """Look through a labelled folder and propose a training; the worker does it, and nothing is trained.

        `wait`, `onEvent` and `onFinished` are those of SegmentLogic.segment.
        """
        plan = TrainingPlan(f"plan-{next(_numbers)}")

        def listen(event: events.Event) -> None:
            if event["event"] == "result":
                plan.config, plan.problems = event["config"], event["problems"]
                if plan.config is not None:
                    plan.text, plan.reasons, plan.warnings = event["text"], event["reasons"], event["warnings"]
                    plan.trainingCases, plan.validationCases = event["training_cases"], event["validation_cases"]
                    plan.fingerprint = event["fingerprint"]
            elif event["event"] == "error":
                kinds = {2: InputError, 3: EnvironmentProblem, 4: Cancelled}
                plan.error = kinds.get(event["exit_code"], DiffSegError)(event["message"])
            call(onEvent, event)
            if event["event"] in ("result", "error"):
                plan.finished = True
                if onFinished is not None:
                    call(onFinished, plan)

        self.client.submit(PlanJob(plan.number, str(Path(data).resolve()), preset, tuple(assignments), memory), listen)
        if wait:
            self.client.wait(plan.number)
            if plan.error is not None:
                raise plan.error
        return plan

    def _newFolder(self, name: str) -> Path:
        root = self.trainingsFolder
        return next(
            path for n in itertools.count(1) if not (path := root / (f"{name}-{n}" if n > 1 else name)).exists()
        )

    def _export(self, pairs: list[dataset.Pair], folder: Path, skipBad: bool) -> Path:
        found = dataset.check(pairs)
        if found.problems and not skipBad:
            advice = _("Correct this, or train without what is wrong (skipBad).")
            raise InputError("\n".join([*found.problems, advice]))
        if len(found.cases) < 2:
            raise InputError("\n".join([*found.problems, _("Fewer than two cases are left.")]))
        for _done in dataset.export(found, folder / "data", folder.name):
            pass
        return folder / "data"

    def _remember(self, folder: Path) -> None:
        known = [str(folder.resolve()), *_remembered()]
        settings.put(RUNS_KEY, json.dumps(list(dict.fromkeys(known))[:REMEMBERED]))


def _remembered() -> list[str]:
    try:
        return [str(text) for text in json.loads(settings.get(RUNS_KEY, "[]"))]
    except (ValueError, TypeError):
        return []


def _name_of(data: Any) -> str:
    return Path(data).resolve().name if isinstance(data, (str, Path)) else "scene"


def _budget(wish: config.TrainingConfig, minutes: float | None, iterations: int | None) -> dict[str, Any]:
    """As the command line decides it: what is said last counts, iterations above minutes."""
    if iterations is not None:
        return {"iterations": iterations}
    minutes = wish.minutes if minutes is None else minutes
    return {"iterations": wish.iterations} if minutes is None else {"minutes": minutes}


def _follow(training: Training, onEvent: events.Listener, onFinished: OnTrained | None) -> None:
    """Look at the training every second where an event loop can do it; nothing is kept once it has ended."""
    silent = onEvent is events.silent and onFinished is None
    if silent or getattr(slicer, "app", None) is None or "qt" not in sys.modules:
        return
    import qt

    timer = qt.QTimer()

    def look() -> None:
        for event in training.update():
            onEvent(event)
        if not training.active:
            timer.stop()
            _followed.discard(timer)
            if onFinished is not None:
                onFinished(training)

    timer.setInterval(INTERVAL)
    timer.connect("timeout()", look)
    _followed.add(timer)
    timer.start()
