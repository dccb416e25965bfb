"""What happens to an image and a label map on their way to the network, held to numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from DiffSegLib import config
from DiffSegLib.config import DataConfig
from DiffSegLib.data import preprocess
from DiffSegLib.data.preprocess import label_to_model_space, normalise, to_model_space
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference.blend import gaussian_weight


def test_a_label_map_on_another_grid_keeps_its_values():
    label = np.zeros((4, 4, 8), np.uint8)
    label[..., 2:5], label[..., 5:] = 1, 3  # a mean of neighbours would make a 2
    finer = label_to_model_space(label, np.eye(4), DataConfig(spacing=(1.0, 1.0, 0.4), patch=(4, 4, 8)))
    assert set(np.unique(finer.numpy())) == {0, 1, 3}
    assert finer.shape == (4, 4, 20)


def test_a_few_extreme_voxels_do_not_change_the_scale_of_the_rest():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(100.0, 10.0, (1, 30, 30, 30)).astype(np.float32))
    struck = image.clone()
    struck[0, 0, 0, :20] = 1e6  # metal, or a burnt-in mark: 0.07 % of the voxels
    plain, other = normalise(image, "zscore"), normalise(struck, "zscore")
    assert float((plain - other)[0, 1:].abs().max()) < 0.2
    assert float(other.max()) < 5.0


@pytest.mark.parametrize("rule", ["zscore", "percentile"])
def test_the_scale_and_the_offset_of_an_image_do_not_matter(rule):
    image = torch.from_numpy(np.random.default_rng(1).random((2, 9, 9, 9), np.float32))
    torch.testing.assert_close(normalise(3000.0 * image - 700.0, rule), normalise(image, rule), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("rule", ["zscore", "percentile"])
@pytest.mark.parametrize("factor", [1e-28, 1e-12, 1e30])
def test_nor_does_a_scale_of_any_other_unit(rule, factor):
    image = torch.from_numpy(np.random.default_rng(1).random((1, 9, 9, 9), np.float32))
    torch.testing.assert_close(normalise(factor * image, rule), normalise(image, rule), atol=1e-5, rtol=1e-5)


def mostly(value: float, share: float, channels: int = 1) -> np.ndarray:
    """An image with a share of noise, and one value elsewhere; the last of several channels."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(channels, 20, 20, 20)).astype(np.float32)
    image[-1].ravel()[rng.permutation(8000)[round(8000 * share) :]] = value
    return image


@pytest.mark.parametrize("rule", ["zscore", "percentile", "ct"])
def test_of_an_image_that_is_nearly_all_one_value_nothing_is_left_and_of_others_something(rule):
    data = DataConfig(spacing=None, patch=(16, 16, 16), normalisation=rule)
    bad = {"zscore": mostly(0.0, 0.004), "percentile": mostly(0.0, 0.004), "ct": mostly(0.0, 1.0) + 3000.0}
    for array, is_left in ((bad[rule], False), (mostly(0.0, 0.03), True)):
        image, _ = to_model_space(Volume(array, np.eye(4), "crop"), data)
        assert bool(image.min() < image.max()) == is_left


def test_hounsfield_units_keep_their_meaning():
    image = torch.tensor([[[[-2000.0, -1000.0, 0.0, 500.0, 3000.0]]]])
    assert normalise(image, "ct").flatten().tolist() == [-2.0, -2.0, 0.0, 1.0, 2.0]


def test_a_window_counts_most_in_its_middle_and_an_eighth_of_its_size_away_by_one_sigma():
    weight = gaussian_weight((33, 17))
    assert float(weight[16, 8]) == 1.0
    away = 33 / 8
    below, above = float(weight[16 + math.floor(away), 8]), float(weight[16 + math.ceil(away), 8])
    assert above < math.exp(-0.5) < below
    assert float(weight.min()) > 0.0


def scan(mm: float) -> Volume:
    noise = np.random.default_rng(0).normal(size=(1, 16, 20, 24)).astype(np.float32)
    return Volume(noise, np.diag([mm, mm, mm, 1.0]), "scan")


@pytest.mark.parametrize("mm", [1e3, 1e7, 1e30, 1e150])
def test_a_grid_that_no_memory_holds_is_refused_before_anything_is_allocated(mm):
    """A header in micrometres: 1 mm becomes 1,000, and 30 kB become 30 TB."""
    data = DataConfig(spacing=(1.0, 1.0, 1.0), patch=(16, 16, 16))
    with pytest.raises(InputError, match=r"scan: is .* mm large, in voxels .* more than this machine's memory"):
        to_model_space(scan(mm), data)
    with pytest.raises(InputError, match="label: is .* more than this machine's memory holds"):
        label_to_model_space(np.zeros((16, 20, 24), np.uint8), scan(mm).affine, data)
    as_it_is = to_model_space(scan(mm), DataConfig(spacing=None, patch=(16, 16, 16)))[0]
    assert as_it_is.shape == (1, 16, 20, 24), "a model without a spacing of its own takes any"


def test_the_limit_is_what_the_machine_has(monkeypatch):
    data = DataConfig(spacing=(1.0, 1.0, 1.0), patch=(16, 16, 16))
    need = 2 * 4 * 32 * 40 * 48  # two copies in float32
    monkeypatch.setattr(preprocess, "machine_memory", lambda: need)
    assert to_model_space(scan(2.0), data)[0].shape == (1, 32, 40, 48)
    monkeypatch.setattr(preprocess, "machine_memory", lambda: need - 1)
    with pytest.raises(InputError, match=r"is 48 x 40 x 32 mm large, in voxels of 2 x 2 x 2 mm; at .* 1 x 1 x 1 mm"):
        to_model_space(scan(2.0), data)
    monkeypatch.undo()
    assert 1 << 28 < preprocess.machine_memory() < 1 << 50


def test_a_volume_smaller_than_a_voxel_of_the_model_is_refused():
    with pytest.raises(InputError, match=r"scan: is .* a single voxel. Is its spacing in mm\?"):
        to_model_space(scan(1e-5), DataConfig(spacing=(1.0, 1.0, 1.0), patch=(16, 16, 16)))


@pytest.mark.parametrize("mm", [1e-6, 0.0, -1.0, 1e5, 1e9])
def test_a_model_of_an_impossible_spacing_is_refused(mm):
    with pytest.raises(InputError, match=r"data.spacing must be from 0\.00001 to 10000 mm"):
        config.from_json({"data": {"spacing": [1.0, mm, 1.0]}})
