"""Labels: the value, name, colour and terminology of each structure, shared by models, files and segments."""

import colorsys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from DiffSegLib.errors import InputError
from DiffSegLib.schema import Text, build

# A DICOM coded entry: (coding scheme, code value, meaning), e.g. ("SCT", "5366008", "Hippocampus").
Code = tuple[Text, Text, Text]
LONGEST_NAME = 200


@dataclass(frozen=True)
class Label:
    """One structure: `value` in the label map (1..255), `name`, `color` (0..1), optional terminology codes."""

    value: int
    name: Text
    color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; absent codes are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str, path: str = "label") -> "Label":
        """Parse one label; `where` names the file in the error, `path` the label in it.

        Raises InputError on unknown keys, values outside 1..255, or malformed colours and codes.
        """
        label: Label = build(Label, data, where, f"{path}.")
        label.check(where)
        return label

    def check(self, where: str) -> None:
        """Raise InputError, naming `where`, for a value, name or colour that cannot be."""
        if not 1 <= self.value <= 255:
            text = f"has value {self.value}; it must be a whole number from 1 to 255"
            raise InputError(f"{where}: label {self.name!r} {text}.")
        if not all(0.0 <= x <= 1.0 for x in self.color):
            raise InputError(f"{where}: label {self.name!r} needs a color of three numbers from 0 to 1.")
        check_name(self.name, where)
        for text in (text for code in (self.category, self.type, self.modifier) for text in code or ()):
            if not is_one_line(text) or set(text) & set("|~^"):  # which part Slicer's tags, entries and codes
                raise InputError(f"{where}: label {self.name!r} has a code with {text[:40]!r}; |, ~ and ^ part codes.")

    def terminology_entry(self) -> str | None:
        """Slicer's serialised terminology (7 parts, `~` between), or None without codes.

        Format: vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry.
        """
        if self.category is None or self.type is None:
            return None
        modifier = "^".join(self.modifier) if self.modifier else "^^"
        context = "Segmentation category and type - 3D Slicer General Anatomy list"
        region = "Anatomic codes - DICOM master list"
        parts = (context, "^".join(self.category), "^".join(self.type), modifier, region, "^^", "^^")
        return "~".join(parts)


@dataclass(frozen=True)
class Region:
    """A union of label values that is predicted as one class; regions may overlap (nnU-Net's region-based training).

    value: what a predicted label map says where the region is found; of two regions the later one counts.
    """

    name: Text
    values: tuple[int, ...]
    value: int

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str) -> "Region":
        """Parse one region; raises InputError naming `where`."""
        region: Region = build(Region, data, where, f"region {data.get('name')!r}.")
        region.check(where)
        return region

    def check(self, where: str) -> None:
        """Raise InputError, naming `where`, for a value or name that cannot be."""
        if not all(1 <= value <= 255 for value in (*self.values, self.value)):
            raise InputError(f"{where}: region {self.name!r} needs a name, values and a value from 1 to 255.")
        check_name(self.name, where)


def check_name(name: str, where: str) -> None:
    """Raise InputError, naming `where`, for a name that no segment could bear: files of masks would cut it."""
    if not is_one_line(name) or not name.strip() or len(name) > LONGEST_NAME:
        shown = f"{name[:40]!r}{'...' if len(name) > 40 else ''}"
        raise InputError(f"{where}: a label is called {shown}; it needs 1 to {LONGEST_NAME} letters on one line.")


def is_one_line(text: str) -> bool:
    """Whether a text has no line break and no other control character."""
    return all(unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def distinct_color(index: int) -> tuple[float, float, float]:
    """A colour far from its neighbours: hues by the golden ratio (index from 0), each 0..1."""
    hue = (0.08 + index * 0.618033988749895) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.62, 0.95 - 0.2 * (index // 8 % 3))
    return round(red, 4), round(green, 4), round(blue, 4)


def names_by_value(labels: Mapping[str, Any]) -> dict[int, Any]:
    """Value -> name of a description's labels, which are written value: name or name: value.

    >>> names_by_value({"1": "liver"}) == names_by_value({"liver": 1})
    True
    """
    pairs = [(key, value) if key.lstrip("-").isdecimal() else (value, key) for key, value in labels.items()]
    return name_of_each(pairs)


def name_of_each(pairs: Iterable[tuple[Any, Any]]) -> dict[int, Any]:
    """Value -> name. Raises ValueError for a value with two names, one of which would be lost."""
    found: dict[int, Any] = {}
    for value, name in pairs:
        if found.setdefault(int(value), name) != name:
            raise ValueError(f"label {int(value)} has two names: {found[int(value)]!r} and {name!r}")
    return found


def labels_from_names(names: Mapping[int, str], where: str = "The labels") -> tuple[Label, ...]:
    """Labels with distinct colours for value -> name; background (0) is left out.

    Raises InputError, naming `where`, for none, a value outside 1..255, a name that is no text or occurs twice.

    >>> [label.name for label in labels_from_names({0: "background", 2: "kidney"})]
    ['kidney']
    """
    values = sorted(value for value in names if value != 0)
    if not values:
        raise InputError(f"{where}: names no label beside the background; there is nothing to learn.")
    labels = tuple(Label(value, names[value], distinct_color(n)) for n, value in enumerate(values))
    for label in labels:
        if not isinstance(label.name, str):
            raise InputError(f"{where}: label {label.value} is called {label.name!r}; its name must be a text.")
        label.check(where)
        if list(names.values()).count(label.name) > 1:
            raise InputError(f"{where}: two labels are called {label.name!r}; give each a name of its own.")
    return labels
