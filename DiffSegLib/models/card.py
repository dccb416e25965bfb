"""The card of a model: everything that is needed to use it and to judge it, as data with a fixed schema."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from DiffSegLib.config import AugmentConfig, Config, DataConfig, DiffusionConfig, LossConfig, NetworkConfig, StrategyKey
from DiffSegLib.config_rules import check
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Label, Region, is_one_line
from DiffSegLib.schema import Text, build, only_once

CARD_SCHEMA = 1
ORIENTATION = "LPS"  # of the grid that images are resampled to
MAX_PARAMETERS = 500_000_000
MAX_MEMBERS = 100  # of an ensemble: each is built before its parameters are counted
FAR_LARGER = 2.0  # times the field of view that a model was trained on: from there on it sees what it never saw
FAR_SMALLER = 1 / 3  # of it: below that the spacing is in another unit, or the structure is cut off
# What `expects` may say of a model's input: the key -> its kind. modality: DICOM's code (MR, CT, PT, US, ...).
# contrast: e.g. T1. field_of_view_mm: of a training image, along (z, y, x) or, of a 2D model, (y, x).
EXPECTS = {"modality": str, "contrast": str, "anatomy": str, "channels": list, "field_of_view_mm": list}


@dataclass(frozen=True)
class Member:
    """A network of an ensemble, and the strategy that it was trained by."""

    network: NetworkConfig
    strategy: StrategyKey


@dataclass(frozen=True)
class Card:
    """name, labels and channels say what goes in and out; network, diffusion, data how; the rest is for judging.

    regions: empty, or the overlapping classes that the network predicts; the labels then name what they write. flip:
    the axes along which it was trained on mirrored images, too. members: empty, or all networks of an ensemble, the
    first of which is `network`. smoothing: of the probabilities, in voxels of the model's grid, before a mask is taken
    from them. temperature: what their logits are divided by where certainty is told.
    expects: see EXPECTS. training: data set, licence, reference, cases, iterations. scores: measured figures with the
    command that measured them.
    """

    name: str
    labels: tuple[Label, ...]
    channels: tuple[Text, ...]
    network: NetworkConfig
    diffusion: DiffusionConfig
    data: DataConfig
    regions: tuple[Region, ...] = ()
    flip: tuple[bool, ...] = ()
    members: tuple[Member, ...] = ()
    smoothing: float = 0.0
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
        return any(a > FAR_LARGER * b for a, b in self._beside(extent))

    def is_far_larger_than(self, extent: Iterable[float]) -> bool:
        """Whether an image of `extent` mm, axes in any order, is far smaller than those that were trained on."""
        return any(a < FAR_SMALLER * b for a, b in self._beside(extent))

    def looks_like(self, extent: Iterable[float], other: Iterable[float]) -> bool:
        """Whether a training image is nearer in size to `extent` mm than to `other`, axes in any order."""
        one, two = (sum(abs(math.log(a / b)) for a, b in self._beside(size)) for size in (extent, other))
        return one < two

    def _beside(self, extent: Iterable[float]) -> Iterable[tuple[float, float]]:
        """Each length of an image beside that of a training image, by size; a 2D model knows no slice's thickness."""
        known = sorted(self.field_of_view)
        return zip(sorted(extent)[-len(known) :], known, strict=False)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with the schema version first."""
        body = asdict(self)
        body["labels"] = [label.to_json() for label in self.labels]
        return {"schema": CARD_SCHEMA, "orientation": ORIENTATION, **body}


def parse_card(text: str, where: str) -> Card:
    """A validated card from the JSON in a model's header. Raises InputError naming `where` and the wrong key."""
    try:
        data = json.loads(text, object_pairs_hook=only_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: its model card is no valid JSON ({error}).") from None
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: its model card must be one JSON object.")
    said = {"orientation": ORIENTATION, **data}
    for key, known in (("schema", CARD_SCHEMA), ("orientation", ORIENTATION)):
        if (value := said.get(key)) != known or (type(value) is not int and key == "schema"):
            raise InputError(f"{where}: its card has {key} {value!r}; this DiffSeg reads {known}.")
    body = {key: value for key, value in data.items() if key not in ("schema", "orientation")}
    card: Card = build(Card, body, f"{where}: model card")
    if not 0.01 <= card.temperature <= 100.0:
        raise InputError(f"{where}: temperature of its model card must be a number from 0.01 to 100.")
    if not 0.0 <= card.smoothing <= 10.0:
        raise InputError(f"{where}: smoothing of its model card must be a number of voxels from 0 to 10.")
    if not is_one_line(card.name):
        raise InputError(f"{where}: name of its model card is {card.name[:40]!r}; it must be letters on one line.")
    _check_expects(card.expects, where)
    if len(card.members) > MAX_MEMBERS:
        raise InputError(f"{where}: its model card has {len(card.members)} members; at most {MAX_MEMBERS} are read.")
    own = Member(card.network, card.diffusion.strategy)
    if card.members and card.members[0] != own:
        raise InputError(f"{where}: the first of members of its model card must be its network and its strategy.")
    for member in card.members or (own,):
        check(_config(card, member), where)
    for label in card.labels:
        label.check(where)
    for region in card.regions:
        region.check(where)
    values, names = {label.value for label in card.labels}, {label.name for label in card.labels}
    if len(values) < len(card.labels) or len(names) < len(card.labels):
        raise InputError(f"{where}: its model card needs labels with different values and names.")
    unnamed = {region.value for region in card.regions} - values
    if unnamed or (card.regions and card.diffusion.classes != "overlapping"):
        problem = f"no label {min(unnamed)} for a region" if unnamed else "regions, but classes that do not overlap"
        raise InputError(f"{where}: its model card has {problem}.")
    return card


def card_of(config: Config, **rest: Any) -> Card:
    """A card for a training's configuration."""
    sections = {"network": config.network, "diffusion": config.diffusion, "data": config.data}
    return Card(**{**sections, "flip": config.augment.flip, **rest})


def _config(card: Card, member: Member) -> Config:
    """What a card says of a member's training, with so much of the rest that it passes the rules between values.

    Flips for as many axes as there are, and the terms of the loss that noise and a learned variance were taught by.
    """
    diffusion = replace(card.diffusion, strategy=member.strategy)
    loss = LossConfig(mse=diffusion.parametrisation == "epsilon", vlb=diffusion.variance.startswith("learned"))
    flips = AugmentConfig(flip=card.flip or (False,) * card.dims)
    return Config(data=card.data, network=member.network, diffusion=diffusion, loss=loss, augment=flips)


def _check_expects(expects: Mapping[str, Any], where: str) -> None:
    for key, value in expects.items():
        if key not in EXPECTS:
            raise InputError(f"{where}: its model card expects {key!r}; known: {', '.join(EXPECTS)}.")
        if not isinstance(value, EXPECTS[key]):
            raise InputError(f"{where}: {key} that its model card expects must be {EXPECTS[key].__name__}.")
    size = expects.get("field_of_view_mm", [1.0, 1.0])
    numbers = [mm for mm in size if isinstance(mm, (int, float)) and not isinstance(mm, bool) and 0 < mm < 1e300]
    if len(numbers) != len(size) or len(size) not in (2, 3):
        raise InputError(f"{where}: field_of_view_mm of its model card must be two or three numbers of mm above zero.")
