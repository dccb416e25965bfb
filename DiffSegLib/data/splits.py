"""Which cases train and which validate."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from DiffSegLib.data.cases import Case, Dataset
from DiffSegLib.errors import InputError
from DiffSegLib.schema import read_json

SEED = 0


def split(dataset: Dataset, file: Path | None = None, skip: Collection[str] = ()) -> tuple[list[Case], list[Case]]:
    """(training, validation) cases.

    `file`, or `splits.json` in the data set's folder, names them: {"train": [names], "val": [names]}. Without one, a
    fifth (at least one) of the cases is drawn, the same for every training's seed; with several cases of one person
    write a file instead.
    Cases named in `skip` are left out. Raises InputError for a file with mistakes, and where a part would be empty.
    """
    incomplete = {name for name, _ in dataset.missing}
    path = file or dataset.folder / "splits.json"
    if not path.is_file():
        if file is not None:
            raise InputError(f"{file}: there is no such file.")
        cases = [case for case in dataset.cases if case.name not in skip]
        if len(cases) < 2:
            found = "one case only" if cases else "no usable case"
            raise InputError(f"{dataset.folder}: holds {found}; at least two are needed, one to validate on.")
        order = np.random.default_rng(SEED).permutation(len(cases))
        held = set(order[: max(1, len(order) // 5)].tolist())
        return [c for n, c in enumerate(cases) if n not in held], [c for n, c in enumerate(cases) if n in held]
    data = read_json(path)
    by_name = {case.name: case for case in dataset.cases}
    parts = []
    for part in ("train", "val"):
        names = data.get(part)
        if not isinstance(names, list) or not names:
            raise InputError(f"{path}: needs a list {part!r} of case names.")
        known = {*by_name, *incomplete}
        unknown = [str(name) for name in names if not isinstance(name, str) or name not in known]
        if unknown:
            raise InputError(f"{path}: {part} names cases that the data set lacks: {', '.join(unknown[:10])}.")
        if len(set(names)) < len(names):
            raise InputError(f"{path}: {part} names {next(x for x in names if names.count(x) > 1)} twice.")
        parts.append([by_name[name] for name in names if name in by_name and name not in skip])
        if not parts[-1]:
            lost = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
            text = "each lacks a file or is bad; mend them, or name others in a file for --split"
            raise InputError(f"{path}: none of its {part} cases can be used ({lost}): {text}.")
    shared = {case.name for case in parts[0]} & {case.name for case in parts[1]}
    if shared:
        raise InputError(f"{path}: {sorted(shared)[0]} stands in both train and val.")
    return parts[0], parts[1]
