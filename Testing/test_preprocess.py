"""What happens to an image and a label map on their way to the network, held to numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from DiffSegLib.config import DataConfig
from DiffSegLib.data.preprocess import label_to_model_space, normalise
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
