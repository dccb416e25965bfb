"""The task `prepare`: load a model in advance (jobs.PrepareJob)."""

from collections.abc import Callable

from DiffSegLib.events import Listener
from DiffSegLib.jobs import PrepareJob
from DiffSegLib.serving.session import Fields, Session


def run(session: Session, request: Fields, send: Listener, cancelled: Callable[[], bool]) -> Fields:
    """The model is the session's warm one afterwards; returns its name."""
    job = PrepareJob.from_json(request)
    predictor = session.predictor(job.model, job.device)
    import DiffSegLib.serving.segment  # noqa: F401 - the task that will come next

    return {"model": predictor.model.card.name}
