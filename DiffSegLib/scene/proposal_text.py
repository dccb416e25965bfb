"""A training's proposal in words, and what a person writes into its fields as settings."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slicer.i18n import tr as _

from DiffSegLib.errors import InputError
from DiffSegLib.scene.trainings import TrainingPlan

MADE_UP = re.compile(r"label \d+")  # what a folder without names calls its structures
SEPARATORS = re.compile(r"[\s,;×]+|(?<=\d)x(?=\d)")


def numbers(text: str, kind: type, title: str) -> list[Any]:
    """`1, 1, 1.5` or `64 x 64 x 32` as numbers; raises InputError that names the field."""
    try:
        return [kind(part) for part in SEPARATORS.split(text.strip()) if part != "x"]
    except ValueError:
        example = "1, 1, 1.5" if kind is float else "64, 64, 64"
        message = _("{title}: “{text}” is no list of numbers; write for instance {example}, or leave it empty.")
        raise InputError(message.format(title=title, text=text.strip(), example=example)) from None


def assignments_of(node: Any) -> list[str]:
    """What the parameter node decides, as `section.key=value`; the rest is proposed."""
    fields = (
        ("data.spacing", node.trainSpacing, float, _("Spacing")),
        ("data.patch", node.trainPatch, int, _("Patch")),
        ("network.channels", node.trainChannels, int, _("Network size")),
    )
    found = [f"{key}={numbers(text, kind, title)}" for key, text, kind, title in fields if text.strip()]
    found += [f"training.batch={node.trainBatch}"] if node.trainBatch else []
    budget = {"minutes": ["training.minutes={n}"], "iterations": ["training.minutes=null", "training.iterations={n}"]}
    found += [text.format(n=node.trainAmount) for text in budget[node.trainBudget]]
    return [*found, f"training.seed={node.trainSeed}"]


def shown(config: Mapping[str, Any], key: str) -> str:
    """A value of a configuration as it may be written into its field."""
    section, _dot, name = key.partition(".")
    value = config[section][name]
    if not isinstance(value, (list, tuple)):
        return str(value)
    return ", ".join(_by(x) if isinstance(x, (list, tuple)) else f"{x:g}" for x in value)


def report(plan: TrainingPlan) -> str:
    """What was found in the data, and each proposed setting with its reason."""
    if plan.config is None:
        return ""
    prints = plan.fingerprint
    cases = _("{training} cases to train with, {validation} to validate.")
    lines = [cases.format(training=plan.trainingCases, validation=plan.validationCases)]
    if any(MADE_UP.fullmatch(label["name"]) for label in prints["labels"]):
        text = _(
            "The structures have no names: to give them some, put a text file labels.csv with lines such as “1,kidney” "
            "into the folder and check again."
        )
        lines.insert(0, text)
    structures = ", ".join(_("{name} (in {cases} cases)").format(**label) for label in prints["labels"])
    lines.append(_("Structures: {structures}.").format(structures=structures))
    size, spacing = (prints[key]["median"] for key in ("shape_voxels", "spacing_mm"))
    text = _("Images: {size} voxels of {spacing} mm (median, in the order {axes}).")
    size = [round(n) for n in size]
    lines.append(text.format(size=_by(size), spacing=_by(spacing), axes=", ".join(prints["axes"].split())))
    lines += plan.warnings
    titles = {
        "data.spacing": _("Spacing {value} mm: {why}."),
        "data.patch": _("Patch {value} voxels: {why}."),
        "training.batch": _("Batch {value}: {why}."),
        "network.channels": _("Network of {value} channels: {why}."),
        "network.strides": _("Strides {value}: {why}."),
        "data.normalisation": _("Intensities by {value}: {why}."),
        "augment.flip": _("Mirrored patches: {why}."),
        "diffusion.strategy": _("Strategy {value}: {why}."),
        "loss.mse": _("Weight of the noise's error {value}: {why}."),
        "loss.vlb": _("Weight of the variational bound {value}: {why}."),
    }
    for key, title in titles.items():
        if key in plan.reasons:
            lines.append(title.format(value=shown(plan.config, key), why=plan.reasons[key]))
    return "\n".join(lines)


def _by(values: Sequence[float]) -> str:
    return " × ".join(f"{x:g}" for x in values)
