"""Which cases train and which validate."""

from pathlib import Path

import numpy as np

from DiffSegLib.data.cases import Case, Dataset, read_json
from DiffSegLib.errors import InputError


def split(dataset: Dataset, file: Path | None = None, seed: int = 0) -> tuple[list[Case], list[Case]]:
    """(training, validation) cases.

    `file`, or `splits.json` in the data set's folder, names them: {"train": [names], "val": [names]}. Without one, a
    fifth (at least one) of the cases is drawn with `seed`; with several cases of one person write a file instead.
    """
    path = file or dataset.folder / "splits.json"
    if not path.is_file():
        if file is not None:
            raise InputError(f"{file}: there is no such file.")
        if len(dataset.cases) < 2:
            raise InputError(f"{dataset.folder}: holds one case only; at least two are needed, one to validate on.")
        order = np.random.default_rng(seed).permutation(len(dataset.cases))
        held = set(order[: max(1, len(order) // 5)].tolist())
        train = [case for n, case in enumerate(dataset.cases) if n not in held]
        return train, [case for n, case in enumerate(dataset.cases) if n in held]
    data = read_json(path)
    by_name = {case.name: case for case in dataset.cases}
    parts = []
    for part in ("train", "val"):
        names = data.get(part)
        if not isinstance(names, list) or not names:
            raise InputError(f"{path}: needs a list {part!r} of case names.")
        unknown = [str(name) for name in names if name not in by_name]
        if unknown:
            raise InputError(f"{path}: {part} names cases that the data set lacks: {', '.join(unknown[:10])}.")
        parts.append([by_name[name] for name in names])
    shared = {case.name for case in parts[0]} & {case.name for case in parts[1]}
    if shared:
        raise InputError(f"{path}: {sorted(shared)[0]} stands in both train and val.")
    return parts[0], parts[1]
