"""The task `plan`: what a training on a folder would be, and everything that is wrong with its data (jobs.PlanJob)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from DiffSegLib import config, events
from DiffSegLib.data.checks import examine
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.errors import Cancelled, InputError
from DiffSegLib.events import Listener
from DiffSegLib.jobs import PlanJob
from DiffSegLib.serving.session import Fields, Session
from DiffSegLib.training.plan import Plan, make_plan
from DiffSegLib.training.proposal import propose

# the last data set that was looked through, so that other wishes need no second look: its state, plan and warnings
_known: tuple[Any, Plan, list[str]] | None = None


def run(session: Session, request: Fields, send: Listener, cancelled: Callable[[], bool]) -> Fields:
    """config: the whole configuration, or None where the data allow no training; reasons: key -> why it was proposed.

    problems: sentences on cases that must be corrected or left out. warnings: sentences on the rest. The files are read
    once as long as none changes.
    """
    global _known
    job = PlanJob.from_json(request)
    settings, open_keys = config.choose(job.preset, None, list(job.assignments))

    warnings: list[str] = []

    def listen(event: events.Event) -> None:
        if cancelled():
            raise Cancelled("The check was cancelled.")
        if event["event"] == "warning":
            warnings.append(str(event["text"]))
        else:
            send(event)

    folder = Path(job.data)
    if _known is None or _known[0] != _state(folder, _known[1]):
        _known = None
        try:
            plan = make_plan(folder, *config.choose("default", None, []), skip_bad=True, listener=listen)
        except InputError:  # perhaps nothing is left without the bad cases: then what is wrong with them
            dataset = load_dataset(folder)
            problems = examine(dataset, dataset.cases, listen).problems
            if not problems:
                raise
            return {"config": None, "problems": [text for texts in problems.values() for text in texts]}
        _known = (_state(folder, plan), plan, [text for text in warnings if not text.startswith("Left out: ")])
    _, plan, warnings = _known
    settings, reasons = propose(plan.fingerprint, settings, open_keys, job.memory)
    return {
        "config": settings.to_json(),
        "text": config.to_text(settings.to_json()),
        "reasons": reasons,
        "problems": plan.left_out,
        "warnings": warnings,
        "training_cases": len(plan.training),
        "validation_cases": len(plan.validation),
        "fingerprint": plan.fingerprint.to_json(),
    }


def _state(folder: Path, plan: Plan) -> Any:
    """Changes with every file of the data set, and with every file more or fewer."""
    cases = [path for case in plan.dataset.cases for path in (*case.images, case.label)]
    descriptions = [folder / name for name in ("dataset.json", "splits.json", "labels.json", "labels.csv")]
    found = []
    for path in dict.fromkeys([folder, *descriptions, *(path.parent for path in cases), *cases]):
        try:
            seen = path.stat()
            found.append((str(path), seen.st_mtime_ns, seen.st_size))
        except OSError:
            found.append((str(path), 0, 0))
    return found
