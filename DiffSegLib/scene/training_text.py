"""A training in words: its state in one, and how it goes or ended in a few sentences."""

import re
from collections.abc import Iterator

from slicer.i18n import tr as _

from DiffSegLib.scene.panels.run_line import WARNING
from DiffSegLib.scene.training import FAILED, FINISHED, RUNNING, STARTING, STOPPED, STOPPING, Training

PROGRESS = re.compile(r"iteration (\d+), loss .*, (\d+) (min|s) left")  # as training.loop tells it at a terminal


def stateOf(training: Training) -> str:
    """For a cell of a table."""
    if training.finishing:
        return _("making its model")
    words = {
        STARTING: _("starting"),
        RUNNING: _("{percent} %"),
        STOPPING: _("stopping"),
        FINISHED: _("finished"),
        STOPPED: _("stopped"),
        FAILED: _("failed"),
    }
    return words[training.state].format(percent=int(100 * training.fraction))


def storyOf(training: Training | None, isFinishing: bool = False, said: str = "") -> str:
    """All about a training. isFinishing: it is stopped so that its model is made. said: what could not be done."""
    if training is None:
        return _("No training has been started on this computer yet.")
    parts = [WARNING + said] if said else []
    parts += [_("Stopping; then its model is made of what is learnt so far.")] if isFinishing else _news(training)
    score = training.validation
    if score is not None:
        scores = zip(training.classes, score["dice_by_class"], strict=True)
        byClass = [f"{name} {dice:.3f}" for name, dice in scores if dice is not None]
        text = _("Last validation, iteration {n}: Dice {dice:.3f} ({byClass}).")
        parts.append(text.format(n=score["iteration"], dice=score["dice"], byClass=", ".join(byClass)))
    return " ".join([*parts, *training.warnings[-2:]])


def _news(training: Training) -> Iterator[str]:
    """How it goes, or how it ended and what can be done now."""
    left, plain = training.secondsLeft, " ".join(training.said.split())
    plain = plain.partition(" % ")[2] or plain  # a line of progress begins with its share, which the bar shows
    if training.state == STOPPING:
        yield _("Stopping; this takes a few seconds.")
    elif training.finishing:
        yield _("Making the model of what is learnt so far; this takes a moment.")
    elif training.state == STARTING:
        yield _("Starting: {what}").format(what=plain or _("the engine is loaded"))
    elif training.active and left is not None:
        yield _going(training.iteration, left / 60)
    elif training.active and (found := PROGRESS.search(plain)):  # a slow one that has logged no number yet
        yield _going(int(found.group(1)), int(found.group(2)) / {"min": 1, "s": 60}[found.group(3)])
    elif training.active:
        yield _("At work: {what}.").format(what=plain)
    elif training.state == FINISHED:
        yield _("Finished. Its model is {path}.").format(path=training.model)
    elif training.state == STOPPED and training.kept:
        yield _("Stopped. Press Resume to go on, or Finish now to make a model of what is learnt so far.")
    elif training.state == STOPPED:
        yield _("Stopped before it had learnt anything. Press Resume to go on.")
    if training.reason and training.state != STOPPED:
        yield training.reason.rstrip(".") + "."
    if training.state == FAILED and training.kept:
        yield _("Press Resume to go on from the last checkpoint, or Finish now to make a model of it.")


def _going(iteration: int, minutes: float) -> str:
    text = _("Iteration {n} of the training, about {left} min left.")
    return text.format(n=iteration, left=max(1, round(minutes)))
