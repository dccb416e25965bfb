"""nnU-Net's raw layouts: images `imagesTr/CASE_0000.ext`, one file a channel, and labels `labelsTr/CASE.ext`.

Version 2 says `channel_names`, `labels` as name -> value (or a list of values: a region, with `regions_class_order`)
and `file_ending`; version 1 has the keys of the Decathlon and files named as version 2.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from DiffSegLib.data.cases import CHANNEL, Case, Dataset, image_files, inside, whole_cases
from DiffSegLib.data.files import case_name
from DiffSegLib.data.layouts.msd import described
from DiffSegLib.errors import InputError
from DiffSegLib.labels import Region, name_of_each
from DiffSegLib.schema import read_json


def read(folder: Path) -> Dataset | None:
    """The data set, or None where `dataset.json` is missing or of another layout.

    Raises InputError that lists every missing file at once, and for an `ignore` label.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        if "channel_names" in data:
            return _version_2(folder, data)
        entries = [Path(item["image"]) for item in data.get("training", [])]
        if entries and not any((folder / image).is_file() for image in entries):
            ending = entries[0].name[len(case_name(entries[0])) :]
            if (folder / "imagesTr" / f"{case_name(entries[0])}_0000{ending}").is_file():
                return described(folder, data, *_cases(folder, len(data["modality"]), ending))
    except KeyError as problem:
        raise InputError(f"{path}: lacks {problem}, which nnU-Net's description of a data set has.") from None
    except (TypeError, ValueError, AttributeError, IndexError) as problem:
        raise InputError(f"{path}: is not in nnU-Net layout ({type(problem).__name__}: {problem}).") from None
    return None


def _version_2(folder: Path, data: dict[str, Any]) -> Dataset:
    cases, missing = _cases(folder, len(data["channel_names"]), str(data["file_ending"]), data.get("dataset"))
    if "ignore" in data["labels"]:
        raise InputError(f"{folder}: dataset.json names an 'ignore' label, which DiffSeg does not know; relabel it.")
    regions = regions_of(data, folder)
    names = name_of_each((found[0], name) for name, found in _values(data).items() if len(found) == 1)
    if regions:
        rest = {region.value: f"{region.name} only" for region in reversed(regions) if region.value in region.values}
        every = {value for region in regions for value in (*region.values, region.value)}
        names = {value: names.get(value) or rest.get(value, f"label {value}") for value in every}
    labels = {str(value): name for value, name in names.items()}
    plain = {**data, "modality": data["channel_names"], "labels": labels}
    return replace(described(folder, plain, cases, missing), regions=regions)


def regions_of(data: dict[str, Any], folder: Path) -> tuple[Region, ...]:
    """The regions of a `dataset.json`, in its order; none where every label is one value.

    `regions_class_order` gives each the value that it writes into a label map, later ones over earlier ones. Raises
    InputError where that is missing.
    """
    values = _values(data)
    if all(len(found) == 1 for found in values.values()):
        return ()
    order = data.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(values):
        raise InputError(
            f"{folder}: dataset.json has labels of several values; 'regions_class_order' must list one value for each "
            f"of its {len(values)} labels."
        )
    found = [{"name": name, "values": some, "value": x} for (name, some), x in zip(values.items(), order, strict=True)]
    return tuple(Region.from_json(region, str(folder / "dataset.json")) for region in found)


def _values(data: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> its values, without the background."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in data["labels"].items()}
    return {name: tuple(int(v) for v in found) for name, found in lists.items() if set(map(int, found)) != {0}}


def _cases(
    folder: Path, channels: int, ending: str, listed: dict[str, Any] | None = None
) -> tuple[tuple[Case, ...], tuple[tuple[str, str], ...]]:
    """Whole cases by their label files, or as `listed` in dataset.json; and every missing or lonely file."""
    if listed is not None:
        where = folder / "dataset.json"
        cases = tuple(
            Case(name, tuple(inside(folder, x, where) for x in entry["images"]), inside(folder, entry["label"], where))
            for name, entry in listed.items()
        )
        return whole_cases(folder, cases)
    images, labels = folder / "imagesTr", [p for p in image_files(folder / "labelsTr") if p.name.endswith(ending)]
    found = []
    for label in labels:
        name = label.name.removesuffix(ending)
        files = tuple(images / f"{name}_{n:04d}{ending}" for n in range(channels))
        one_file = channels > 1 and ending == ".png" and not any(file.is_file() for file in files[1:])  # RGB
        found.append(Case(name, files[:1] if one_file else files, label))
    names = {case.name for case in found}
    stems = sorted({CHANNEL.sub("", case_name(p)) for p in image_files(images) if p.name.endswith(ending)})
    lonely = [(stem, f"label for image {stem}") for stem in stems if stem not in names]
    for path in (p for p in image_files(folder / "labelsTr") if not p.name.endswith(ending)):  # else nobody would know
        if (name := case_name(path)) not in names:
            lonely.append((name, f"label {name}{ending} (there is {path.name})"))
    return whole_cases(folder, found, lonely)
