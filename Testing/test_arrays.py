"""Arrays between the worker and its parent."""

import os

import numpy as np
import pytest

from DiffSegLib.serving.arrays import filled, load_array, save_array


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("slices", [[], [0], [2, 3], [6], [0, 6], range(7)])
def test_an_array_comes_back_as_it_was(tmp_path, kind, slices):
    array = np.zeros((7, 4, 5), dtype=kind)
    array[list(slices), 1:3] = 3
    assert filled(array) == ((min(slices), max(slices) + 1) if slices else (0, 0))
    for each in (array, np.asfortranarray(array), array[::-1]):
        found = load_array(save_array(tmp_path / "array.npy", each))
        assert found.dtype == kind
        np.testing.assert_array_equal(found, each)


def test_what_a_mask_leaves_empty_takes_no_room_on_the_disk(tmp_path):
    (tmp_path / "hole").write_bytes(b"")
    os.truncate(tmp_path / "hole", 1 << 20)
    if not hasattr(os.stat(tmp_path), "st_blocks") or (tmp_path / "hole").stat().st_blocks:
        pytest.skip("this file system knows no holes")
    mask = np.zeros((64, 128, 128), dtype=np.uint8)
    mask[30:34, 60:70, 60:70] = 1
    path = save_array(tmp_path / "mask.npy", mask)
    assert os.stat(path).st_blocks * 512 < mask.nbytes / 4
