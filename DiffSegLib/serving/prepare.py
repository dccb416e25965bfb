"""The task `prepare`: load a model in advance (jobs.PrepareJob)."""

from collections.abc import Callable
from typing import Any

from DiffSegLib import events
from DiffSegLib.serving.session import Session


def run(
    session: Session, request: dict[str, Any], send: Callable[[events.Event], None], cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """The model is the session's warm one afterwards; returns its name."""
    predictor = session.predictor(str(request.get("model")), str(request.get("device", "auto")))
    import DiffSegLib.serving.segment  # noqa: F401 - the task that will come next

    return {"model": predictor.model.card.name}
