"""Random changes of a patch: in millimetres, each by its own chance, and never between thick slices."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import conftest
from conftest import blob_case
from DiffSegLib import config
from DiffSegLib.config import AugmentConfig, DataConfig
from DiffSegLib.data.intensity import blur, change_intensity, gamma, low_resolution
from DiffSegLib.data.patches import cut, generator, prepare
from DiffSegLib.data.stream import batches
from DiffSegLib.data.volume import coarse_axis
from DiffSegLib.errors import InputError

STILL = AugmentConfig(**conftest.STILL)
TURNING = replace(STILL, affine_probability=1.0, rotation=45.0, scale=0.0, shift=0.0)


def ball_of(spacing, shape):
    """A case with a ball of 10 mm in its middle."""
    axes = [mm * (np.arange(n) - (n - 1) / 2) for mm, n in zip(spacing, shape, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    ball = torch.from_numpy((z**2 + y**2 + x**2 < 100).astype(np.float32))
    return prepare("x", ball[None], ball.byte(), spacing)


def test_rotation_acts_in_millimetres():
    """In voxels 2.5 times longer along z, a rotated ball in mm stays a ball in mm."""
    case = ball_of((2.5, 1.0, 1.0), (12, 32, 32))
    size = int(case.label.sum())
    for n in range(5):
        _, label = cut(case, DataConfig(patch=(12, 32, 32), foreground=0.0), TURNING, generator(3, n))
        assert int((label.bool() ^ case.label.bool()).sum()) < 0.25 * size  # in voxels: 0.6


def test_thick_slices_are_turned_and_moved_in_their_plane_only():
    assert [coarse_axis(s) for s in ((5.0, 1, 1), (1, 4.0, 1.2), (3.0, 1, 1), (1.0, 1, 1), (5.0, 1))] == [
        *(0, 1, None, None, None)
    ]
    ramp = torch.arange(6.0)[:, None, None].expand(6, 24, 24)
    data = DataConfig(patch=(6, 12, 12), foreground=0.0)
    strong = replace(TURNING, scale=0.3, shift=0.1)

    def slices_mixed(spacing):
        case = prepare("x", (ramp + 1)[None].contiguous(), torch.zeros(6, 24, 24).byte(), spacing)
        images = torch.cat([cut(case, data, strong, generator(0, n))[0] for n in range(10)])
        middle = images[:, 1:5, 4:8, 4:8] - 1
        return float((middle - middle.round()).abs().max())

    assert slices_mixed((5.0, 1.0, 1.0)) < 1e-4 and slices_mixed((2.0, 1.0, 1.0)) > 0.2


def spread_of(image, axis, spacing):
    """Standard deviation in mm of what a point in the middle became, along one axis."""
    other = [a for a in range(3) if a != axis]
    profile = image[0].sum(other)
    place = spacing[axis] * (torch.arange(len(profile)) - len(profile) // 2)
    return float((profile * place**2).sum() / profile.sum()) ** 0.5


def test_blur_reaches_as_far_in_millimetres_along_every_axis():
    point = torch.zeros(1, 21, 41, 41)
    point[0, 10, 20, 20] = 1.0
    spacing = (2.0, 1.0, 0.8)
    blurred = blur(point, 1.6, spacing)
    assert [spread_of(blurred, axis, spacing) for axis in range(3)] == pytest.approx([1.6] * 3, rel=0.02)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(blur(torch.ones(2, 5, 6, 7), 2.0, spacing), torch.ones(2, 5, 6, 7))  # no dark border
    thick = blur(point, 0.9, (5.0, 1.0, 1.0))
    assert spread_of(thick, 0, (5.0, 1.0, 1.0)) == 0.0 and spread_of(thick, 1, (5.0, 1.0, 1.0)) > 0.8


def test_low_resolution_leaves_axes_alone_that_are_coarse_already():
    image = torch.randn(1, 12, 24, 24, generator=torch.Generator().manual_seed(0))
    coarse = low_resolution(image, 4.0, (5.0, 1.0, 2.0))
    frequencies = torch.fft.rfftn(coarse[0] - coarse.mean()).abs()  # what 4 mm voxels cannot hold is nearly gone
    assert frequencies[:, 9:16].mean() < 0.25 * torch.fft.rfftn(image[0]).abs()[:, 9:16].mean()
    for n in range(12):  # every slice by itself, as it would be in two dimensions
        alone = low_resolution(image[:, n], 4.0, (1.0, 2.0))
        torch.testing.assert_close(coarse[:, n], alone)
    assert torch.equal(low_resolution(image, 4.0, (5.0, 4.0, 4.0)), image)


def test_gamma_keeps_the_range():
    image = torch.randn(2, 10, 12, 14, generator=torch.Generator().manual_seed(0))
    bent = gamma(image, 1.3)
    assert [float(x) for x in bent.aminmax()] == pytest.approx([float(x) for x in image.aminmax()], abs=1e-4)
    assert bent.mean() < image.mean()


CHANGES = ["contrast", "gamma", "blur", "low_resolution", "noise"]


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_of_intensity_comes_by_its_own_chance(name):
    image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    augment = replace(STILL, **{f"{name}_probability": 0.3})
    changed = [not torch.equal(change_intensity(image, augment, (1.0,) * 3, generator(n)), image) for n in range(300)]
    assert 60 < sum(changed) < 120
    assert torch.equal(change_intensity(image, STILL, (1.0,) * 3, generator(0)), image)


def test_the_ranges_do_not_depend_on_the_unit_of_length():
    """A mouse brain at 0.1 mm is blurred over as many voxels as a human one at 1 mm."""
    image = torch.randn(1, 10, 12, 14, generator=torch.Generator().manual_seed(0))
    augment = replace(STILL, blur_probability=1.0, low_resolution_probability=1.0)
    one, two = (change_intensity(image, augment, spacing, generator(5)) for spacing in ((1.0, 2, 1), (0.1, 0.2, 0.1)))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_wrong_ranges_are_refused_by_name():
    for written, sentence in (
        ("augment.noise_probability=1.2", "augment.noise_probability must be from 0 to 1"),
        ("augment.low_resolution=0.5", "augment.low_resolution must be from 1 to 100"),
        ("augment.scale=1", "augment.scale must be from 0 to 0.7"),
        ("augment.blur=-1", "augment.blur must be from 0 to 100"),
        ("training.accumulate=0", "training.accumulate must be from 1 to 4096"),
        ("training.patience=0", "training.patience must be above 0, or null"),
        ("data.patch=[8,8,8]", "more than one voxel at the bottom"),
        ("diffusion.parametrisation=epsilon", "epsilon needs loss.mse above 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            config.override(config.Config(), [written])


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_cut_ahead_are_the_same_and_end_with_the_training(threads):
    import threading

    from DiffSegLib.data.patches import batch_of

    cases = [prepare(str(n), *(torch.from_numpy(x) for x in part), (1.0,) * 3) for n, part in enumerate(pairs(3))]
    small = {"channels": [8, 16], "strides": [[2, 2, 2]]}
    settings = config.from_json({"data": {"patch": [8, 8, 8]}, "training": {"batch": 2}, "network": small})
    before = threading.active_count()
    stream = batches(cases, settings, 3, 4, threads)
    for m in range(4):
        positions, image, label = next(stream)
        assert positions == range(3 + 4 * m, 5 + 4 * m)
        wanted = batch_of(cases, settings.data, settings.augment, 0, positions)
        assert torch.equal(image, wanted[0]) and torch.equal(label, wanted[1])
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before
    broken = batches([replace(cases[0], image=torch.zeros(0))], settings, 0, 2)
    with pytest.raises(IndexError):
        next(broken)


def pairs(count):
    return [(image[None], label) for image, label in (blob_case(n, (10, 12, 10)) for n in range(count))]
