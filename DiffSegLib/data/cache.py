"""Prepared cases: in memory while they are small, else memory-mapped files of which only the patch is read."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from DiffSegLib import events
from DiffSegLib.config import DataConfig
from DiffSegLib.data import files
from DiffSegLib.data.cases import Case, Dataset
from DiffSegLib.data.channels import read_case
from DiffSegLib.data.checks import Facts
from DiffSegLib.data.patches import Prepared, prepare
from DiffSegLib.data.preprocess import label_to_model_space, to_model_space
from DiffSegLib.data.volume import resampled_shape
from DiffSegLib.whole_files import whole_file

IN_MEMORY = 2 << 30  # bytes of all prepared cases together


def prepare_cases(
    dataset: Dataset,
    cases: Sequence[Case],
    facts: Mapping[str, Facts],
    data: DataConfig,
    folder: Path,
    listener: events.Listener = events.silent,
    in_memory: int = IN_MEMORY,
) -> list[Prepared]:
    """Read and normalise cases that were checked; above `in_memory` bytes in all they go to files in `folder`.

    Files there that are newer than their case's are used again, so a resumed training starts at once.
    """
    planes = [facts[case.name].plane(len(data.patch)) for case in cases]
    sizes = [np.prod(resampled_shape(*plane, data.spacing)) for plane in planes]
    on_disk = float(sum(sizes)) * (4 * len(dataset.channels) + 1) > in_memory
    prepared = []
    for n, (case, (shape, native)) in enumerate(zip(cases, planes, strict=True)):
        listener(events.make("progress", fraction=0.0, text=f"preparing case {n + 1} of {len(cases)}"))
        if on_disk:
            image, label = _mapped(dataset, case, data, folder, n)
        else:
            image, label = prepare_case(dataset, case, data)
        spacing = tuple(mm * a / b for mm, a, b in zip(native, shape, label.shape, strict=True))
        prepared.append(prepare(case.name, image, label, spacing))
    return prepared


def prepare_case(dataset: Dataset, case: Case, data: DataConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """One case on the network's grid: image (C, *spatial) float32, label (*spatial) uint8 class index."""
    volume = read_case(case.images, len(dataset.channels))
    label, affine = files.read_label(case.label)
    table = np.zeros(256, dtype=np.uint8)  # label value -> class index
    table[[entry.value for entry in dataset.labels]] = np.arange(1, len(dataset.labels) + 1)
    return to_model_space(volume, data)[0], label_to_model_space(table[label], affine, data)


def _mapped(dataset: Dataset, case: Case, data: DataConfig, folder: Path, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    name = f"{n:05d}-" + re.sub(r"[^\w.-]", "_", case.name)  # a case may be named by anything
    paths = [folder / f"{name}.{part}.npy" for part in ("image", "label")]
    sources = max(path.stat().st_mtime for path in (*case.images, case.label))
    if not all(path.is_file() and path.stat().st_mtime >= sources for path in paths):
        for path, tensor in zip(paths, prepare_case(dataset, case, data), strict=True):
            with whole_file(path) as aside, open(aside, "wb") as file:
                np.save(file, tensor.numpy(), allow_pickle=False)
    # mode c: torch wants arrays that may be written to; what is written never reaches the file
    image, label = (torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)) for path in paths)
    return image, label
