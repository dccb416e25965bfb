"""The measures of a segmentation, as pure functions on two label maps.

Label maps are integer arrays (K, J, I); `spacing` is in mm in the same axis order. What a measure says when a structure
is missing:

| structure in        | Dice, IoU | NSD | HD95, ASD | outcome    |
| ------------------- | --------- | --- | --------- | ---------- |
| both                | 0..1      | 0..1| mm        | `found`    |
| the reference only  | 0         | 0   | infinite  | `missed`   |
| the prediction only | 0         | 0   | infinite  | `spurious` |
| neither             | NaN       | NaN | NaN       | `absent`   |

So a total miss never leaves a mean unseen: it counts as 0 in bounded measures, and where no finite distance exists it
is counted and reported beside the mean. NaN for `absent` is what nnU-Net and MONAI do: there was nothing to find.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from DiffSegLib.evaluation.surface import SurfaceDistances, surface_distances

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
    volume_ml: float
    reference_volume_ml: float


ABSENT = Scores("absent", *(float("nan"),) * 5, volume_ml=0.0, reference_volume_ml=0.0)


def dice(prediction: np.ndarray, reference: np.ndarray, label: int) -> float:
    """Dice coefficient 2 |P ∩ R| / (|P| + |R|) of one label.

    >>> dice(np.array([[[1, 1, 0]]]), np.array([[[0, 1, 0]]]), label=1)
    0.6666666666666666
    """
    overlap, size = _counts(prediction, reference, label)
    return 2.0 * overlap / size if size else float("nan")


def iou(prediction: np.ndarray, reference: np.ndarray, label: int) -> float:
    """Intersection over union (Jaccard index) |P ∩ R| / |P ∪ R| of one label."""
    overlap, size = _counts(prediction, reference, label)
    return overlap / (size - overlap) if size else float("nan")


def hd95(prediction: np.ndarray, reference: np.ndarray, label: int, spacing: Sequence[float]) -> float:
    """95 % Hausdorff distance in mm of one label: the larger of the two directed 95th percentiles (MONAI, ImgX).

    Some programs take one percentile of both directions together, which is never larger.
    """
    return _hd95(surface_distances(prediction == label, reference == label, spacing))


def nsd(
    prediction: np.ndarray, reference: np.ndarray, label: int, spacing: Sequence[float], tolerance_mm: float = 1.0
) -> float:
    """Normalised surface Dice of one label: the share of both surfaces within `tolerance_mm` of the other.

    Nikolov et al. 2018, arXiv:1809.04430; surface voxels are counted, as in MONAI, not weighted by their area.
    """
    return _nsd(surface_distances(prediction == label, reference == label, spacing), tolerance_mm)


def asd(
    prediction: np.ndarray, reference: np.ndarray, label: int, spacing: Sequence[float], *, worse_side: bool = False
) -> float:
    """Average symmetric surface distance in mm of one label: the mean over all distances of both directions.

    Heimann et al. 2009, doi:10.1109/TMI.2009.2013851. With `worse_side` the larger of the two directed means instead,
    which is what ImgX reports as its mean surface distance.
    """
    return _asd(surface_distances(prediction == label, reference == label, spacing), worse_side)


def volume_ml(labelmap: np.ndarray, label: int, spacing: Sequence[float]) -> float:
    """Volume of one label in ml: voxels times the voxel's volume."""
    return float(np.count_nonzero(labelmap == label) * np.prod(spacing) / 1000.0)


def score(
    prediction: np.ndarray, reference: np.ndarray, label: int, spacing: Sequence[float], tolerance_mm: float = 1.0
) -> Scores:
    """All measures of one label, with the surface distances computed once.

    Raises ValueError if the shapes differ or a spacing is not above zero.
    """
    distances = surface_distances(prediction == label, reference == label, spacing)
    volume, reference_volume = (volume_ml(labelmap, label, spacing) for labelmap in (prediction, reference))
    return Scores(
        outcome=_outcome(volume > 0, reference_volume > 0),
        dice=dice(prediction, reference, label),
        iou=iou(prediction, reference, label),
        hd95_mm=_hd95(distances),
        nsd=_nsd(distances, tolerance_mm),
        asd_mm=_asd(distances, worse_side=False),
        volume_ml=volume,
        reference_volume_ml=reference_volume,
    )


def _outcome(predicted: bool, present: bool) -> str:
    if predicted and present:
        return "found"
    return "missed" if present else "spurious" if predicted else "absent"


def _counts(prediction: np.ndarray, reference: np.ndarray, label: int) -> tuple[int, int]:
    """Voxels in both masks, and the sum of the voxels of each."""
    if prediction.shape != reference.shape:
        raise ValueError(f"the label maps have different shapes: {prediction.shape} and {reference.shape}")
    predicted, present = prediction == label, reference == label
    overlap = int(np.count_nonzero(predicted & present))
    return overlap, int(np.count_nonzero(predicted)) + int(np.count_nonzero(present))


def _hd95(distances: SurfaceDistances) -> float:
    if _is_one_sided(distances):
        return float("inf")
    if distances.to_reference.size == 0:
        return float("nan")
    return float(max(np.percentile(side, 95) for side in (distances.to_reference, distances.to_prediction)))


def _nsd(distances: SurfaceDistances, tolerance_mm: float) -> float:
    both = np.concatenate([distances.to_reference, distances.to_prediction])
    return float(np.mean(both <= tolerance_mm)) if both.size else float("nan")


def _asd(distances: SurfaceDistances, worse_side: bool) -> float:
    if _is_one_sided(distances):
        return float("inf")
    if distances.to_reference.size == 0:
        return float("nan")
    if worse_side:
        return float(max(distances.to_reference.mean(), distances.to_prediction.mean()))
    return float(np.concatenate([distances.to_reference, distances.to_prediction]).mean())


def _is_one_sided(distances: SurfaceDistances) -> bool:
    return (distances.to_reference.size == 0) != (distances.to_prediction.size == 0)
