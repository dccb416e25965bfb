"""Orientation, spacing and windows: the mask of a turned image is the turned mask, for every way a volume can lie."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from DiffSegLib.config import DataConfig
from DiffSegLib.data.preprocess import normalise, to_model_space
from DiffSegLib.data.volume import Volume, check_geometry, orientation_of, resampled_shape
from DiffSegLib.errors import InputError
from DiffSegLib.inference.blend import gaussian_weight
from DiffSegLib.inference.windows import plan_windows, window_noise
from tally import tried
from whole_map import to_native

ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


def turned(array, affine, order, signs):
    """The same physical volume stored with voxel axes (i, j, k) permuted and flipped; array is (C, K, J, I)."""
    ijk = array.transpose(0, 3, 2, 1)
    shape = ijk.shape[1:]
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    out = ijk.transpose(0, *(1 + axis for axis in order))
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[old, new] = sign
        if sign < 0:
            out = np.flip(out, 1 + new)
            matrix[old, 3] = shape[old] - 1
    return np.ascontiguousarray(out.transpose(0, 3, 2, 1)), affine @ matrix


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
@pytest.mark.parametrize("oblique", [False, True])
def test_every_storage_of_one_volume_reaches_the_network_alike_and_comes_back(order, signs, oblique):
    tried("orientations and formats")
    rng = np.random.default_rng(0)
    affine = np.diag([0.8, 1.1, 2.5, 1.0])
    if oblique:
        affine[:3, :3] = Rotation.from_euler("xyz", [17, -11, 23], degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = (-40.0, 12.0, 7.0)
    base = rng.standard_normal((1, 5, 7, 9)).astype(np.float32)
    array, matrix = turned(base, affine, order, signs)
    data = DataConfig(spacing=(2.0, 1.0, 1.0))
    wanted, wanted_grid = to_model_space(Volume(base, affine), data)
    image, grid = to_model_space(Volume(array, matrix), data)
    torch.testing.assert_close(image, wanted, atol=1e-5, rtol=1e-5)
    probability = torch.from_numpy(rng.random((3, *image.shape[1:]), dtype=np.float32))
    mask = to_native(probability, grid)
    assert mask.shape == array.shape[1:]
    back, _ = turned(to_native(probability, wanted_grid)[None], affine, order, signs)
    np.testing.assert_array_equal(mask, back[0])


def test_canonical_axes_point_to_superior_posterior_left():
    """In LPS world a canonical volume's array axes (z, y, x) have positive directions."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS storage
    orientation = orientation_of(affine)
    assert orientation.axes == (0, 1, 2) and orientation.flips == (False, True, True)


def test_resampled_classes_cover_the_same_place():
    """A half-space boundary stays where it is, to half a voxel, when the network works at another spacing."""
    array = np.zeros((1, 20, 24, 28), np.float32)
    array[:, :, 12:] = 1.0
    data = DataConfig(spacing=(1.5, 1.5, 1.5))
    image, grid = to_model_space(Volume(array, np.diag([0.7, 1.0, 2.0, 1.0])), data)
    high = (image[0] > 0).float()
    mask = to_native(torch.stack([1 - high, high]), grid)
    assert (mask[:, :12] == 0).all() and (mask[:, 13:] == 1).all()


def test_a_matching_spacing_is_not_resampled():
    assert resampled_shape((10, 11, 12), (1.0, 1.0005, 0.9999), (1.0, 1.0, 1.0)) == (10, 11, 12)
    assert resampled_shape((10, 10, 10), (2.0, 1.0, 0.5), (1.0, 1.0, 1.0)) == (20, 10, 5)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.diag([1.0, 0.0, 1.0, 1.0]), "spacing"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "spacing"),
        (np.array([[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared"),
    ],
)
def test_a_grid_that_no_mask_fits_is_refused_by_name(matrix, words):
    with pytest.raises(InputError, match=f"scan.nrrd.*{words}"):
        check_geometry(matrix, "scan.nrrd")


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (2, 0)])
def test_how_far_from_a_right_angle_two_axes_may_be(axes):
    """A thousandth: a tenth of a voxel over a hundred. Headers that round their directions to four digits are below."""
    for cosine, is_straight in ((0.9e-3, True), (1.1e-3, False)):
        matrix = np.eye(4)
        matrix[axes] = cosine
        if is_straight:
            check_geometry(matrix, "scan.nrrd")
            continue
        with pytest.raises(InputError, match=r"scan\.nrrd: its axes are not at right angles"):
            check_geometry(matrix, "scan.nrrd")


@pytest.mark.parametrize("rule", ["zscore", "percentile", "ct"])
def test_a_constant_image_stays_finite(rule):
    assert torch.isfinite(normalise(torch.full((1, 4, 4, 4), 7.0), rule)).all()


def test_normalisation_ignores_the_scale_of_the_scanner():
    image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normalise(2e5 + 3e4 * image, "zscore"), normalise(image, "zscore"), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (30, 40, 30), (33, 50, 41), (70, 96, 64), (130, 41, 200)])
def test_windows_cover_the_volume_and_lie_inside(shape):
    plan = plan_windows(shape, (32, 40, 32), (8, 8, 8))
    covered = torch.zeros(plan.padded)
    for n in range(len(plan.starts)):
        covered[plan.slices(n)] += 1
    assert (covered > 0).all() and covered.shape == plan.padded
    assert all(a + s <= p for start in plan.starts for a, s, p in zip(start, plan.size, plan.padded, strict=True))
    assert all(s % 8 == 0 for s in plan.size) and all(p >= n for p, n in zip(plan.padded, shape, strict=True))


def test_neighbouring_windows_overlap_by_half():
    plan = plan_windows((200, 200, 200), (32, 40, 32), (8, 8, 8))
    for axis in range(3):
        starts = sorted({start[axis] for start in plan.starts})
        assert max(np.diff(starts)) <= plan.size[axis] // 2


def test_gaussian_weight_is_symmetric_and_peaks_in_the_middle():
    weight = gaussian_weight((8, 10, 6))
    assert weight.shape == (8, 10, 6) and torch.equal(weight, weight.flip(0, 1, 2))
    assert weight.min() >= 1e-3
    assert weight[3, 4, 2] == weight.max()


def test_noise_depends_on_each_of_its_counters_and_on_nothing_else():
    base = window_noise(0, 0, 0, 5, (2, 3))
    assert torch.equal(base, window_noise(0, 0, 0, 5, (2, 3)))
    for other in ((1, 0, 0, 5), (0, 1, 0, 5), (0, 0, 1, 5), (0, 0, 0, 4)):
        assert not torch.equal(base, window_noise(*other, (2, 3)))


def test_the_weight_of_a_window_falls_as_the_reference_program_s_does():
    weight = gaussian_weight((33,))
    assert float(weight[16]) == 1.0
    assert float(weight[16 + 4]) == pytest.approx(np.exp(-0.5 * (4 / (33 / 8)) ** 2), rel=1e-5)


def test_no_two_windows_steps_or_samples_share_their_noise():
    keys = [(0, 0, 0, 1), (0, 0, 0, 2), (0, 0, 1, 1), (0, 1, 0, 1), (1, 0, 0, 1)]
    assert len({tuple(window_noise(*key, (6,)).tolist()) for key in keys}) == len(keys)
