"""The card of a model: everything that is needed to use it and to judge it, as data with a fixed schema."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from DiffSegLib.config import SCHEMA_VERSION, Config, DataConfig, DiffusionConfig, NetworkConfig, from_json
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label, Region

CARD_SCHEMA = 1
MAX_PARAMETERS = 500_000_000
FAR_LARGER = 2.0  # times the field of view that a model was trained on: from there on it sees what it never saw
FAR_SMALLER = 1 / 3  # of it: below that the spacing is in another unit, or the structure is cut off
# What `expects` may say of a model's input: the key -> its kind. modality: DICOM's code (MR, CT, PT, US, ...).
# contrast: e.g. T1. field_of_view_mm: of a training image, along (z, y, x) or, of a 2D model, (y, x).
EXPECTS = {"modality": str, "contrast": str, "anatomy": str, "channels": list, "field_of_view_mm": list}


@dataclass(frozen=True)
class Member:
    """A network of an ensemble, and the strategy that it was trained by."""

    network: NetworkConfig
    strategy: Any  # one of those of DiffusionConfig


@dataclass(frozen=True)
class Card:
    """name, labels and channels say what goes in and out; network, diffusion, data how; the rest is for judging.

    regions: empty, or the overlapping classes that the network predicts; the labels then name what they write. flip:
    the axes along which it was trained on mirrored images, too. members: empty, or all networks of an ensemble, the
    first of which is `network`. temperature: what its logits are divided by where certainty is told.
    expects: see EXPECTS. training: data set, licence, reference, cases, iterations. scores: measured figures with the
    command that measured them.
    """

    name: str
    labels: tuple[Label, ...]
    channels: tuple[str, ...]
    network: NetworkConfig
    diffusion: DiffusionConfig
    data: DataConfig
    regions: tuple[Region, ...] = ()
    flip: tuple[bool, ...] = ()
    members: tuple[Member, ...] = ()
    temperature: float = 1.0
    description: str = ""
    licence: str = ""
    not_for: str = ""
    seed: int = 0
    expects: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Background, and one class per region or else per label."""
        return len(self.regions or self.labels) + 1

    @property
    def dims(self) -> int:
        """Of its images: 3, or 2 for single slices."""
        return len(self.data.patch)

    @property
    def field_of_view(self) -> tuple[float, ...]:
        """Of a training image in mm along (z, y, x) or (y, x); empty if the card does not say."""
        return tuple(float(mm) for mm in self.expects.get("field_of_view_mm", ()))

    def is_far_smaller_than(self, extent: Iterable[float]) -> bool:
        """Whether an image of `extent` mm, axes in any order, is far larger than those that were trained on."""
        known = sorted(self.field_of_view)
        have = sorted(extent)[-len(known) :] if known else []  # a 2D model knows nothing of the slice's thickness
        return any(a > FAR_LARGER * b for a, b in zip(have, known, strict=False))

    def is_far_larger_than(self, extent: Iterable[float]) -> bool:
        """Whether an image of `extent` mm, axes in any order, is far smaller than those that were trained on."""
        known = sorted(self.field_of_view)
        have = sorted(extent)[-len(known) :] if known else []
        return any(a < FAR_SMALLER * b for a, b in zip(have, known, strict=False))

    def looks_like(self, extent: Iterable[float], other: Iterable[float]) -> bool:
        """Whether a training image is nearer in size to `extent` mm than to `other`, axes in any order."""
        known = sorted(self.field_of_view)

        def apart(size: Iterable[float]) -> float:
            nearest = sorted(size)[-len(known) :]
            return sum(abs(math.log(a / b)) for a, b in zip(nearest, known, strict=False))

        return bool(known) and apart(extent) < apart(other)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with the schema version first."""
        body = asdict(self)
        body["labels"] = [label.to_json() for label in self.labels]
        return {"schema": CARD_SCHEMA, "orientation": "LPS", **body}


def parse_card(text: str, where: str) -> Card:
    """A validated card from the JSON in a model's header. Raises InputError naming `where` and the wrong key."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: its model card is no valid JSON.") from None
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: its model card must be one JSON object.")
    if data.get("schema") != CARD_SCHEMA:
        raise InputError(f"{where}: its card has schema {data.get('schema')!r}; this DiffSeg reads {CARD_SCHEMA}.")
    known = {"schema", "orientation", *Card.__dataclass_fields__}
    unknown = sorted(set(data) - known)
    missing = [key for key in ("name", "labels", "channels", "network", "diffusion", "data") if key not in data]
    if unknown or missing:
        problem = f"an unknown key {unknown[0]!r}" if unknown else f"no key {missing[0]!r}"
        raise InputError(f"{where}: its model card has {problem}.")
    kinds: dict[str, type] = {
        "name": str,
        "labels": list,
        "channels": list,
        "regions": list,
        "flip": list,
        "members": list,
        "description": str,
        "licence": str,
        "not_for": str,
    }
    kinds |= {"seed": int, "expects": dict, "training": dict, "scores": dict, "versions": dict}
    for key, kind in kinds.items():
        if key in data and not isinstance(data[key], kind):
            raise InputError(f"{where}: {key} of its model card must be {kind.__name__}.")
    temperature = data.get("temperature", 1.0)
    if not isinstance(temperature, (int, float)) or isinstance(temperature, bool) or not 0.01 <= temperature <= 100.0:
        raise InputError(f"{where}: temperature of its model card must be a number from 0.01 to 100.")
    _check_expects(data.get("expects", {}), where)
    sections: dict[str, Any] = {key: data[key] for key in ("network", "diffusion", "data")}
    config = from_json({"version": SCHEMA_VERSION, **sections, **_unknown(data)}, where)
    labels = tuple(Label.from_json(item, where) for item in data["labels"])
    ids = [label.value for label in labels], [label.name for label in labels]
    if not labels or not data["channels"] or any(len(set(each)) < len(labels) for each in ids):
        raise InputError(f"{where}: its model card needs labels with different values and names, and channels.")
    regions = tuple(Region.from_json(item, where) for item in data.get("regions", []))
    unnamed = {region.value for region in regions} - {label.value for label in labels}
    if unnamed or (regions and config.diffusion.classes != "overlapping"):
        problem = f"no label {min(unnamed)} for a region" if unnamed else "regions, but classes that do not overlap"
        raise InputError(f"{where}: its model card has {problem}.")
    rest = {
        key: data[key]
        for key in kinds
        if key in data and key not in ("labels", "channels", "regions", "flip", "members")
    }
    return Card(
        labels=labels,
        regions=regions,
        flip=config.augment.flip if data.get("flip") else (),
        members=tuple(_member(item, data, where) for item in data.get("members", [])),
        channels=tuple(str(channel) for channel in data["channels"]),
        network=config.network,
        diffusion=config.diffusion,
        data=config.data,
        temperature=float(temperature),
        **rest,
    )


def card_of(config: Config, **rest: Any) -> Card:
    """A card for a training's configuration."""
    sections = {"network": config.network, "diffusion": config.diffusion, "data": config.data}
    return Card(**{**sections, "flip": config.augment.flip, **rest})


def _member(item: Any, data: Mapping[str, Any], where: str) -> Member:
    if not isinstance(item, Mapping) or set(item) != {"network", "strategy"}:
        raise InputError(f"{where}: a member in its model card must hold network and strategy.")
    sections = {"data": data["data"], "network": item["network"]}
    sections["diffusion"] = {**data["diffusion"], "strategy": item["strategy"]}
    config = from_json({"version": SCHEMA_VERSION, **sections, **_unknown(data)}, where)
    return Member(config.network, config.diffusion.strategy)


def _unknown(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a card does not hold of a configuration, so that it passes the rules between values.

    Flips for as many axes as there are, and the terms of the loss that noise and a learned variance were taught by.
    """
    section, diffusion = data["data"], data["diffusion"]
    patch = section.get("patch", (0, 0, 0)) if isinstance(section, Mapping) else (0, 0, 0)
    flips = [False] * (len(patch) if isinstance(patch, (list, tuple)) and patch else 3)
    known = diffusion if isinstance(diffusion, Mapping) else {}
    loss = {
        "vlb": float(known.get("variance") in ("learned", "learned_range")),
        "mse": float(known.get("parametrisation") == "epsilon"),
    }
    return {"augment": {"flip": data.get("flip") or flips}, "loss": loss}


def _check_expects(expects: Mapping[str, Any], where: str) -> None:
    for key, value in expects.items():
        if key not in EXPECTS:
            raise InputError(f"{where}: its model card expects {key!r}; known: {', '.join(EXPECTS)}.")
        if not isinstance(value, EXPECTS[key]):
            raise InputError(f"{where}: {key} that its model card expects must be {EXPECTS[key].__name__}.")
    size = expects.get("field_of_view_mm", [1.0, 1.0])
    numbers = [mm for mm in size if isinstance(mm, (int, float)) and not isinstance(mm, bool) and 0 < mm < float("inf")]
    if len(numbers) != len(size) or len(size) not in (2, 3):
        raise InputError(f"{where}: field_of_view_mm of its model card must be two or three numbers of mm above zero.")
