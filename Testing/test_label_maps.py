"""What is a label map and what an image of whole grey values, which would be hundreds of structures."""

import numpy as np
import pytest

from DiffSegLib.data.files import read_label, write_mask, write_volume
from DiffSegLib.errors import InputError

AFFINE = np.eye(4)


def test_a_map_of_many_structures_is_no_image(tmp_path):
    """125 of them, three voxels wide."""
    places = np.stack(np.meshgrid(*[np.arange(15) // 3] * 3, indexing="ij"))
    parcels = (np.tensordot([25, 5, 1], places, 1) + 1).astype(np.uint8)
    write_mask(tmp_path / "a.nii.gz", parcels, AFFINE)
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii.gz")[0], parcels)


def test_an_image_with_much_background_and_few_grey_values_is_no_label_map(tmp_path):
    """A skull-stripped head in 40 shades, of which neighbours often have the same."""
    rng = np.random.default_rng(0)
    head = np.zeros((24, 24, 24), np.uint8)
    head[6:18, 6:18, 6:18] = rng.integers(1, 41, (12, 12, 12))
    head[6:18, 6:18, 7:18:4] = head[6:18, 6:18, 6:17:4]
    write_volume(tmp_path / "a.nii.gz", head, AFFINE)
    with pytest.raises(InputError, match="a label map is needed"):
        read_label(tmp_path / "a.nii.gz")


def test_a_map_of_many_single_voxels_is_no_image(tmp_path):
    """Landmarks, contacts of electrodes, fibres: each voxel has another neighbour, but most have none."""
    spots = np.zeros((20, 20, 20), np.uint8)
    rng = np.random.default_rng(0)
    spots.ravel()[rng.permutation(8000)[:200]] = rng.integers(1, 200, 200)
    spots[5, 5, 3:17] = np.arange(1, 15)
    write_mask(tmp_path / "a.nii.gz", spots, AFFINE)
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii.gz")[0], spots)
