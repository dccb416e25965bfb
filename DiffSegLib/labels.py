"""Labels: the value, name, colour and terminology of each structure, shared by models, files and segments."""

import colorsys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from DiffSegLib.errors import InputError

# A DICOM coded entry: (coding scheme, code value, meaning), e.g. ("SCT", "5366008", "Hippocampus").
Code = tuple[str, str, str]
LONGEST_NAME = 200


@dataclass(frozen=True)
class Label:
    """One structure: `value` in the label map (1..255), `name`, `color` (0..1), optional terminology codes."""

    value: int
    name: str
    color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; absent codes are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str) -> "Label":
        """Parse one label; `where` names the file in the error.

        Raises InputError on unknown keys, values outside 1..255, or malformed colours and codes.
        """
        known = {"value", "name", "color", "category", "type", "modifier"}
        unknown = set(data) - known
        if unknown:
            raise InputError(f"{where}: unknown label key {sorted(unknown)[0]!r}; allowed: {sorted(known)}")
        try:
            value, name = data["value"], str(data["name"])
            color = tuple(float(x) for x in data.get("color", (0.5, 0.5, 0.5)))
            codes = {k: _code(data[k]) for k in ("category", "type", "modifier") if data.get(k) is not None}
        except (KeyError, TypeError, ValueError) as problem:
            raise InputError(f"{where}: a label is malformed ({problem}).") from None
        if not _is_label(value):
            raise InputError(f"{where}: label {name!r} has value {value!r}; it must be a whole number from 1 to 255.")
        if len(color) != 3 or not all(0.0 <= x <= 1.0 for x in color):
            raise InputError(f"{where}: label {name!r} needs a color of three numbers from 0 to 1.")
        check_name(name, where)
        return Label(value, name, color, **codes)

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

    name: str
    values: tuple[int, ...]
    value: int

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str) -> "Region":
        """Parse one region; raises InputError naming `where`."""
        try:
            found = Region(str(data["name"]), tuple(data["values"]), data["value"])
        except (KeyError, TypeError) as problem:
            raise InputError(f"{where}: a region is malformed ({problem}).") from None
        numbers = (*found.values, found.value)
        if set(data) != {"name", "values", "value"} or not found.values or not all(map(_is_label, numbers)):
            raise InputError(f"{where}: region {found.name!r} needs a name, values and a value from 1 to 255.")
        check_name(found.name, where)
        return found


def check_name(name: str, where: str) -> None:
    """Raise InputError, naming `where`, for a name that no segment could bear: files of masks would cut it."""
    odd = any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)
    if odd or not name.strip() or len(name) > LONGEST_NAME:
        shown = f"{name[:40]!r}{'...' if len(name) > 40 else ''}"
        raise InputError(f"{where}: a label is called {shown}; it needs 1 to {LONGEST_NAME} letters on one line.")


def _is_label(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255


def _code(entry: Sequence[str]) -> Code:
    scheme, value, meaning = (str(x) for x in entry)
    return scheme, value, meaning


def distinct_color(index: int) -> tuple[float, float, float]:
    """A colour far from its neighbours: hues by the golden ratio (index from 0), each 0..1."""
    hue = (0.08 + index * 0.618033988749895) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.62, 0.95 - 0.2 * (index // 8 % 3))
    return round(red, 4), round(green, 4), round(blue, 4)


def labels_from_names(names: Mapping[int, str], where: str = "The labels") -> tuple[Label, ...]:
    """Labels with distinct colours for value -> name; background (0) is left out.

    Raises InputError, naming `where`, for none, a value outside 1..255, a name that is no text or occurs twice.

    >>> [label.name for label in labels_from_names({0: "background", 2: "kidney"})]
    ['kidney']
    """
    values = sorted(value for value in names if value != 0)
    if not values:
        raise InputError(f"{where}: names no label beside the background; there is nothing to learn.")
    for value in values:
        name = names[value]
        if not _is_label(value):
            raise InputError(f"{where}: label {name!r} has value {value}; it must be a whole number from 1 to 255.")
        if not isinstance(name, str):
            raise InputError(f"{where}: label {value} is called {name!r}; its name must be a text.")
        check_name(name, where)
        if list(names.values()).count(name) > 1:
            raise InputError(f"{where}: two labels are called {name!r}; give each a name of its own.")
    return tuple(Label(v, names[v], distinct_color(i)) for i, v in enumerate(values))
