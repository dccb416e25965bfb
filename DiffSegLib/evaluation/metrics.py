"""The measures of a segmentation, as a pure function of two label maps.

Label maps are integer arrays (K, J, I); `spacing` is in mm in the same axis order. What a measure says when a structure
is missing:

| structure in        | Dice, IoU | NSD | distances | outcome    |
| ------------------- | --------- | --- | --------- | ---------- |
| both                | 0..1      | 0..1| mm        | `found`    |
| the reference only  | 0         | 0   | infinite  | `missed`   |
| the prediction only | 0         | 0   | infinite  | `spurious` |
| neither             | NaN       | NaN | NaN       | `absent`   |

So a total miss never leaves a mean unseen: it counts as 0 in bounded measures, and where no finite distance exists it
is counted and reported beside the mean. NaN for `absent` is what nnU-Net and MONAI do: there was nothing to find.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from DiffSegLib.evaluation.surface import surface_distances

OUTCOMES = ("found", "missed", "spurious", "absent")


@dataclass(frozen=True)
class Scores:
    """Everything measured of one structure in one case; see the table above for missing structures."""

    outcome: str
    dice: float
    iou: float
    hd95_mm: float
    nsd: float
    asd_mm: float
    centroid_mm: float
    volume_ml: float
    reference_volume_ml: float


ABSENT = Scores("absent", *(float("nan"),) * 6, volume_ml=0.0, reference_volume_ml=0.0)


def score(
    prediction: np.ndarray, reference: np.ndarray, label: int, spacing: Sequence[float], tolerance_mm: float = 1.0
) -> Scores:
    """All measures of one label.

    - Dice: 2 |P ∩ R| / (|P| + |R|). IoU (Jaccard index): |P ∩ R| / |P ∪ R|.
    - HD95, mm: the larger of the two directed 95th percentiles of the surface distances (MONAI, ImgX). Some programs
      take one percentile of both directions together, which is never larger.
    - NSD: the share of both surfaces within `tolerance_mm` of the other (Nikolov et al. 2018, arXiv:1809.04430);
      surface voxels are counted, as in MONAI, not weighted by their area.
    - ASD, mm: the mean over all surface distances of both directions (Heimann et al. 2009,
      doi:10.1109/TMI.2009.2013851). ImgX reports the larger of the two directed means instead.
    - Centroid, mm: the distance of the two centres of mass, as ImgX reports it.

    >>> score(np.array([[[1, 1, 0]]]), np.array([[[0, 1, 0]]]), label=1, spacing=(1.0, 1.0, 1.0)).dice
    0.6666666666666666

    Raises ValueError if the shapes differ or a spacing is not above zero.
    """
    predicted, present = prediction == label, reference == label
    distances = surface_distances(predicted, present, spacing)
    both = np.concatenate([distances.to_reference, distances.to_prediction])
    overlap, size, true_size = (int(np.count_nonzero(mask)) for mask in (predicted & present, predicted, present))
    voxel = float(np.prod(spacing)) / 1000.0
    volumes = {"volume_ml": size * voxel, "reference_volume_ml": true_size * voxel}
    if not size + true_size:
        return Scores("absent", *(float("nan"),) * 6, **volumes)
    if not size or not true_size:
        return Scores("missed" if true_size else "spurious", 0.0, 0.0, math.inf, 0.0, math.inf, math.inf, **volumes)
    return Scores(
        outcome="found",
        dice=2.0 * overlap / (size + true_size),
        iou=overlap / (size + true_size - overlap),
        hd95_mm=float(max(np.percentile(side, 95) for side in (distances.to_reference, distances.to_prediction))),
        nsd=float(np.mean(both <= tolerance_mm)),
        asd_mm=float(both.mean()),
        centroid_mm=_centroid_distance(predicted, present, spacing),
        **volumes,
    )


def _centroid_distance(one: np.ndarray, other: np.ndarray, spacing: Sequence[float]) -> float:
    """In mm; from whole numbers, so that it does not depend on where in the volume the masks lie."""
    apart = []
    for axis, mm in enumerate(spacing):
        others = tuple(n for n in range(one.ndim) if n != axis)
        (n, s), (m, r) = ((int(k.sum()), int(k @ np.arange(len(k)))) for k in (x.sum(others) for x in (one, other)))
        apart.append((s * m - r * n) / (n * m) * mm)
    return math.hypot(*apart)
