"""A model's card as a page that people read: what it is for and not for, what it was trained on, how good it is."""

import html
from collections.abc import Iterator

from slicer.i18n import tr as _

from DiffSegLib.models.card import Card


def card_page(card: Card) -> str:
    """The card as HTML."""
    parts = [f"<b>{html.escape(card.name)}</b>"]
    if card.description:
        parts.append(html.escape(card.description))
    parts += [f"<b>{html.escape(title)}</b> {html.escape(text)}" for title, text in _entries(card) if text]
    return "".join(f"<p>{part}</p>" for part in parts)


def _entries(card: Card) -> Iterator[tuple[str, str]]:
    yield _("Not for:"), card.not_for
    yield _("Structures:"), ", ".join(label.name for label in card.labels)
    yield _("Input:"), "; ".join(_input(card))
    yield _("Trained on:"), "; ".join(_training(card))
    yield _("Measured:"), "; ".join(_scores(card))
    yield _("Licence:"), card.licence
    yield _("Cite:"), str(card.training.get("reference", ""))


def _input(card: Card) -> Iterator[str]:
    yield ", ".join(card.channels)
    if card.expects.get("anatomy"):
        yield str(card.expects["anatomy"])
    if card.dims == 2:
        yield _("single slices")
    if card.field_of_view:
        # the card has the patient's axes from above to below first; people say left to right first
        size = " × ".join(f"{mm:.0f}" for mm in reversed(card.field_of_view))
        yield _("about {size} mm").format(size=size)
    if card.data.spacing:
        size = " × ".join(f"{mm:g}" for mm in reversed(card.data.spacing))
        yield _("resampled to voxels of {size} mm").format(size=size)


def _training(card: Card) -> Iterator[str]:
    facts = card.training
    if facts.get("dataset"):
        yield str(facts["dataset"])
    if facts.get("train_cases"):
        yield _("{count} cases").format(count=facts["train_cases"])
    if facts.get("licence"):
        yield str(facts["licence"])


def _scores(card: Card) -> Iterator[str]:
    facts = card.scores
    if "dice" in facts:
        by_label = facts.get("dice_by_label")
        named = ", ".join(f"{name} {dice}" for name, dice in by_label.items()) if isinstance(by_label, dict) else ""
        yield f"Dice {facts['dice']}" + (f" ({named})" if named else "")
    if facts.get("what"):
        yield str(facts["what"])
    best = card.training.get("best_validation_dice")
    if best is not None and "dice" not in facts:
        yield _("Dice {dice} on its validation cases").format(dice=best)
