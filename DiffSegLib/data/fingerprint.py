"""The fingerprint of a data set: what its cases have in common, as far as a training's settings depend on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from DiffSegLib.data.cases import Dataset
from DiffSegLib.data.checks import PERCENTILES, Facts


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """dims: 2 where every case is one slice. spacings (mm) and shapes (voxels): (cases, dims) in the order (z, y, x).

    intensities: (channels, 3), the medians over the cases of the 0.5, 50 and 99.5 percentile. voxels: label value ->
    its sizes in the cases that hold it. contents: case -> checksum of its image and label.
    """

    dataset: Dataset
    dims: int
    spacings: np.ndarray
    shapes: np.ndarray
    intensities: np.ndarray
    voxels: dict[int, list[int]]
    contents: dict[str, str]

    @property
    def is_ct(self) -> tuple[bool, ...]:
        """Per channel: called CT, and with values below 0 as HU have (a CT saved as 0..255 is no CT to us)."""
        named = (name.strip().upper() == "CT" for name in self.dataset.channels)
        return tuple(bool(ct and low < 0) for ct, low in zip(named, self.intensities[:, 0], strict=True))

    def to_json(self) -> dict[str, Any]:
        """A summary that a person can read."""

        def spread(values: np.ndarray) -> dict[str, Any]:
            rows = {"min": values.min(0), "median": np.median(values, 0), "max": values.max(0)}
            return {key: np.round(row, 4).tolist() for key, row in rows.items()}

        keys = ["name", "ct", *map("percentile {:g}".format, PERCENTILES)]
        rows = zip(self.dataset.channels, self.is_ct, np.round(self.intensities, 4).tolist(), strict=True)
        channels = [dict(zip(keys, (name, ct, *row), strict=True)) for name, ct, row in rows]
        labels = []
        for label in self.dataset.labels:
            found = self.voxels.get(label.value, [])
            sizes = spread(np.array(found)) if found else None
            labels.append({"value": label.value, "name": label.name, "cases": len(found), "voxels": sizes})
        return {
            "dataset": self.dataset.name,
            "cases": len(self.shapes),
            "dimensions": self.dims,
            "axes": "z y x"[-2 * self.dims + 1 :],
            "spacing_mm": spread(self.spacings),
            "shape_voxels": spread(self.shapes),
            "channels": channels,
            "labels": labels,
            "contents_crc32": self.contents,
        }


def fingerprint(dataset: Dataset, facts: Mapping[str, Facts]) -> Fingerprint:
    """The fingerprint of the cases that were found good (at least one)."""
    cases = list(facts.values())
    dims = 2 if all(1 in case.shape for case in cases) else 3
    shapes, spacings = (np.array(part) for part in zip(*(case.plane(dims) for case in cases), strict=True))
    voxels: dict[int, list[int]] = {}
    for case in cases:
        for value, count in case.voxels.items():
            voxels.setdefault(value, []).append(count)
    intensities = np.median(np.array([case.intensities for case in cases]), axis=0)
    contents = {name: case.content for name, case in facts.items()}
    return Fingerprint(dataset, dims, spacings, shapes, intensities, voxels, contents)
