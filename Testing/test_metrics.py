"""The metrics against the published implementation's numbers, closed forms, MONAI, and what holds for any masks."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from DiffSegLib.evaluation import metrics
from DiffSegLib.evaluation.surface import surface_distances, surface_points

GOLDEN = json.loads((Path(__file__).parent / "fixtures" / "golden_metrics.json").read_text())
SPACING = (3.0, 1.5, 0.5)  # far from cubic, so that a wrong axis order cannot pass


def box(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(low, high) for low, high in ranges)] = 1
    return mask


def worse_side(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> float:
    """The mean surface distance in its larger direction."""
    found = surface_distances(prediction, reference, spacing)
    return max(found.to_reference.mean(), found.to_prediction.mean())


@pytest.fixture
def golden_masks() -> tuple[np.ndarray, np.ndarray]:
    return tuple(box(GOLDEN["shape"], *GOLDEN[f"{which}_box"]) for which in ("prediction", "reference"))


@pytest.mark.parametrize("label", [0, 1])
def test_the_published_implementation_gives_the_same_numbers(golden_masks, label):
    prediction, reference = golden_masks
    spacing = GOLDEN["spacing_mm"]
    scores = metrics.score(prediction, reference, label, spacing, tolerance_mm=1.0)
    found = {
        "dice": scores.dice,
        "iou": scores.iou,
        "hausdorff95": scores.hd95_mm,
        "nsd_1mm": scores.nsd,
        "centroid_distance": scores.centroid_mm,
        "mean_surface_distance_sym_max": worse_side(prediction == label, reference == label, spacing),
    }
    assert found == pytest.approx({key: GOLDEN[key][label] for key in found}, rel=1e-5)
    assert scores.volume_ml == pytest.approx(GOLDEN["volume_ml"][label], rel=1e-5)


@pytest.mark.parametrize(("axis", "millimetres"), [(0, 3.0), (1, 1.5), (2, 0.5)])
def test_a_plane_moved_by_two_voxels_is_two_spacings_away(axis, millimetres):
    shape = (9, 9, 9)
    plane = np.zeros(shape, dtype=np.uint8)
    plane[tuple(4 if a == axis else slice(None) for a in range(3))] = 1
    moved = np.roll(plane, 2, axis)
    assert metrics.score(plane, moved, 1, SPACING).hd95_mm == pytest.approx(2 * millimetres)
    assert metrics.score(plane, moved, 1, SPACING).asd_mm == pytest.approx(2 * millimetres)
    assert metrics.score(plane, moved, 1, SPACING, tolerance_mm=2 * millimetres - 0.01).nsd == 0.0
    assert metrics.score(plane, moved, 1, SPACING, tolerance_mm=2 * millimetres).nsd == 1.0
    assert metrics.score(plane, moved, 1, SPACING).dice == 0.0


def test_the_average_distance_weighs_both_surfaces_by_their_size():
    # One voxel against a row of five: to the row 0 mm; from the row 0, 2, 4, 6, 8 mm.
    one, row = box((1, 1, 5), (0, 1), (0, 1), (0, 1)), box((1, 1, 5), (0, 1), (0, 1), (0, 5))
    assert metrics.score(one, row, 1, (1, 1, 2)).asd_mm == pytest.approx(20 / 6)
    assert worse_side(one == 1, row == 1, (1, 1, 2)) == pytest.approx(4)
    assert metrics.score(one, row, 1, (1, 1, 2)).hd95_mm == pytest.approx(7.6)  # 95 % of the way from 6 to 8 mm
    assert metrics.score(row, one, 1, (1, 1, 2)).hd95_mm == pytest.approx(7.6)


def test_the_border_of_the_image_counts_as_surface_and_the_inside_does_not():
    full = np.ones((5, 5, 5), dtype=bool)
    points = surface_points(full, (1, 1, 1))
    assert len(points) == 5**3 - 3**3
    assert not ((points > 0) & (points < 4)).all(axis=1).any()


@pytest.mark.parametrize("seed", range(4))
def test_monai_gives_the_same_numbers(seed):
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((14, 17, 20)), 2)
    first = smooth > np.quantile(smooth, 0.7)
    second = smooth + gaussian_filter(rng.standard_normal(smooth.shape), 2) > np.quantile(smooth, 0.75)
    a, b = (torch.from_numpy(mask)[None, None] for mask in (first, second))
    hd = monai.compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=SPACING)
    nsd = monai.compute_surface_dice(a, b, [1.0], include_background=True, spacing=SPACING)
    one_way = [
        monai.compute_average_surface_distance(x, y, include_background=True, spacing=SPACING).item()
        for x, y in ((a, b), (b, a))
    ]
    p, r = first.astype(np.uint8), second.astype(np.uint8)
    assert metrics.score(p, r, 1, SPACING).hd95_mm == pytest.approx(hd.item(), rel=1e-5)
    assert metrics.score(p, r, 1, SPACING).nsd == pytest.approx(nsd.item(), rel=1e-5)
    assert worse_side(first, second, SPACING) == pytest.approx(max(one_way), rel=1e-5)


EMPTY, SPECK = np.zeros((4, 5, 6), dtype=np.uint8), box((4, 5, 6), (1, 3), (1, 3), (1, 3))


def test_a_missed_structure_is_zero_in_shares_and_infinite_in_distances():
    for prediction, reference, outcome in ((EMPTY, SPECK, "missed"), (SPECK, EMPTY, "spurious")):
        scores = metrics.score(prediction, reference, 1, SPACING)
        assert (scores.outcome, scores.dice, scores.iou, scores.nsd) == (outcome, 0.0, 0.0, 0.0)
        assert math.isinf(scores.hd95_mm) and math.isinf(scores.asd_mm)


def test_a_structure_in_neither_mask_has_no_score():
    scores = metrics.score(EMPTY, EMPTY, 1, SPACING)
    assert scores.outcome == "absent"
    distances = (scores.hd95_mm, scores.asd_mm, scores.centroid_mm)
    assert all(math.isnan(x) for x in (scores.dice, scores.iou, scores.nsd, *distances))
    assert (scores.volume_ml, scores.reference_volume_ml) == (0.0, 0.0)
    assert repr(scores) == repr(metrics.ABSENT)


masks = st.integers(0, 2**27 - 1).map(lambda bits: np.array([bits >> n & 1 for n in range(27)]).reshape(3, 3, 3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(masks, masks, st.floats(0.1, 10))
def test_what_must_hold_for_any_two_masks(first, second, factor):
    assume(first.any() and second.any())
    there, back = metrics.score(first, second, 1, SPACING), metrics.score(second, first, 1, SPACING)
    for name in ("dice", "iou", "hd95_mm", "nsd", "asd_mm", "centroid_mm"):
        assert getattr(there, name) == pytest.approx(getattr(back, name))  # neither mask is preferred
    assert there.dice == pytest.approx(2 * there.iou / (1 + there.iou))
    larger = metrics.score(first, second, 1, [factor * s for s in SPACING], tolerance_mm=factor * 1.25)
    assert larger.hd95_mm == pytest.approx(factor * there.hd95_mm)
    assert larger.centroid_mm == pytest.approx(factor * there.centroid_mm)
    assert larger.asd_mm == pytest.approx(factor * there.asd_mm)
    assert larger.nsd == pytest.approx(metrics.score(first, second, 1, SPACING, 1.25).nsd)
    padded = [np.pad(mask, ((4, 1), (0, 3), (2, 2))) for mask in (first, second)]
    assert metrics.score(*padded, 1, SPACING) == there  # only the masks count, not how much air is around them
    same = metrics.score(first, first, 1, SPACING)
    assert (same.dice, same.nsd, same.hd95_mm, same.asd_mm) == (1.0, 1.0, 0.0, 0.0)


def test_shapes_and_spacings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="different shapes"):
        metrics.score(EMPTY, EMPTY[:2], 1, SPACING)
    with pytest.raises(ValueError, match="different shapes"):
        surface_distances(EMPTY > 0, EMPTY[:2] > 0, SPACING)
    for spacing in ((1, 1), (1, 1, 0), (1, 1, float("nan"))):
        with pytest.raises(ValueError, match="spacing"):
            metrics.score(SPECK, SPECK, 1, spacing)


def test_the_centres_of_mass_are_apart_in_millimetres_along_each_axis():
    there = np.zeros((6, 8, 10), dtype=np.uint8)
    there[1:3, 2:5, 3:7] = 1
    moved = np.roll(there, (1, 2, 3), (0, 1, 2))
    moved[2, 4, 6] = 0  # one of the 24 voxels, at a corner
    found = metrics.score(moved, there, 1, (2.5, 1.0, 0.5)).centroid_mm
    apart = np.mean(np.argwhere(moved), 0) - np.mean(np.argwhere(there), 0)
    assert found == pytest.approx(np.linalg.norm(apart * (2.5, 1.0, 0.5)))
