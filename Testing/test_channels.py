"""The channels of a case: in one file or several, on one grid."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import blob_case, make_dataset, write_image
from DiffSegLib.data.batch import find_cases
from DiffSegLib.data.channels import read_case, same_grid
from DiffSegLib.data.checks import examine
from DiffSegLib.data.datasets import load_dataset
from DiffSegLib.data.files import channel_count
from DiffSegLib.errors import InputError


def test_channels_in_one_file_of_four_dimensions(tmp_path):
    folder = make_dataset(tmp_path / "set", 2)
    text = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**text, "modality": {"0": "T1", "1": "T2"}}))
    for n in range(2):
        image = sitk.GetImageFromArray(blob_case(n)[0])
        path = folder / "imagesTr" / f"blob_{n:02d}.nii.gz"
        sitk.WriteImage(sitk.JoinSeries([image, image * 2]), str(path))
        assert channel_count(path) == 2
    found = load_dataset(folder)
    volume = read_case(found.cases[1].images, 2)
    np.testing.assert_allclose(volume.array, np.stack([blob_case(1)[0], 2 * blob_case(1)[0]]), rtol=1e-6)
    assert not examine(found, found.cases).problems


def test_a_channel_on_another_grid_is_resampled_to_the_first(tmp_path):
    """A linear ramp in mm stays that ramp, whatever grid it is sampled on."""

    def ramp(shape, affine):
        k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
        return (np.stack([i, j, k, np.ones_like(i)], -1) @ affine.T)[..., :3].astype(np.float32) @ np.array([3, 5, 7.0])

    fine, coarse = np.diag([1.0, 1.0, 2.0, 1.0]), np.diag([2.0, 3.0, 1.5, 1.0])
    coarse[:3, 3] = -4.0
    first = write_image(tmp_path / "x_0000.nii.gz", np.zeros((6, 8, 10), np.float32), fine)
    second = write_image(tmp_path / "x_0001.nii.gz", ramp((30, 20, 20), coarse).astype(np.float32), coarse)
    volume = read_case((first, second))
    assert volume.array.shape == (2, 6, 8, 10)
    np.testing.assert_allclose(volume.array[1], ramp((6, 8, 10), fine), atol=1e-3)


def test_the_unit_of_a_channel_does_not_matter_where_it_is_resampled(tmp_path):
    """A diffusion coefficient in m2/s, say, is about 1e-9."""
    half = np.eye(4)
    half[:3, 3] = 0.5
    values = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    first = write_image(tmp_path / "x_0000.nii.gz", values)
    found = {}
    for unit in (1.0, 1e-9):
        second = write_image(tmp_path / f"{unit}.nii.gz", values * np.float32(unit), half)
        found[unit] = read_case((first, second)).array[1] / unit
    np.testing.assert_allclose(found[1e-9], found[1.0], atol=1e-5)


def test_where_a_channel_does_not_reach_it_has_its_lowest_value(tmp_path):
    """Air of a CT, say; not 0, which is water."""
    first = write_image(tmp_path / "x_0000.nii.gz", np.zeros((4, 5, 9), np.float32))
    second = write_image(tmp_path / "x_0001.nii.gz", np.linspace(-1024, -500, 4 * 5 * 6).reshape(4, 5, 6))
    found = read_case((first, second)).array[1]
    assert (found[:, :, 6:] == -1024).all() and found[:, :, :6].max() == pytest.approx(-500)


def test_a_channel_that_lies_elsewhere_is_refused(tmp_path):
    away = np.eye(4)
    away[:3, 3] = 500.0
    first = write_image(tmp_path / "x_0000.nii.gz", np.ones((4, 4, 4), np.float32))
    second = write_image(tmp_path / "x_0001.nii.gz", np.ones((4, 4, 4), np.float32), away)
    with pytest.raises(InputError, match=r"x_0001.nii.gz: lies nowhere on the grid of .*x_0000"):
        read_case((first, second))


def test_rounded_headers_are_one_grid_and_shifted_ones_are_not():
    shape, affine = (100, 200, 300), np.diag([0.7, 0.7, 2.0, 1.0])
    rounded, shifted = affine + 1e-6, affine.copy()
    shifted[0, 3] = 0.1
    assert same_grid(shape, affine, shape, rounded)
    assert not same_grid(shape, affine, shape, shifted) and not same_grid(shape, affine, (100, 200, 301), affine)


def test_cases_of_several_channels_to_predict(tmp_path):
    for name in ("a_0000.nrrd", "a_0001.nrrd", "b.nrrd"):
        write_image(tmp_path / name, np.zeros((2, 2, 2), np.float32))
    names = {name: [p.name for p in paths] for name, paths in find_cases([tmp_path], 2)}
    assert names == {"a": ["a_0000.nrrd", "a_0001.nrrd"], "b": ["b.nrrd"]}
    assert [name for name, _ in find_cases([tmp_path], 1)] == ["a_0000", "a_0001", "b"]
    assert [name for name, _ in find_cases([tmp_path / "a_0000.nrrd"], 1)] == ["a"]  # nnU-Net's name of one channel
    with pytest.raises(InputError, match="case a: has 2 channel files; the model needs 3"):
        find_cases([tmp_path], 3)
    (tmp_path / "a_0000.nrrd").unlink()
    with pytest.raises(InputError, match="a_0001.nrrd: is channel 1 of case a, whose channel 0 is missing"):
        find_cases([tmp_path], 2)
