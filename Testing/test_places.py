"""Where a file says in two ways, or in none, how its voxels lie: by how much it may, and who hears of it."""

import json
import struct

import numpy as np
import pytest

from bad.images import nifti, put, write
from conftest import blob_case
from DiffSegLib.commands import run
from DiffSegLib.data.files import read

CODES, PIXDIM, QFORM, SFORM = 252, 80, 256, 280
MM = (0.5, 0.5, 5.0)


def placed(qform: int, sform: int, image: np.ndarray | None = None) -> bytearray:
    """A NIfTI of thick slices with both codes."""
    affine = np.diag([*MM, 1.0])
    data = nifti(affine=affine) if image is None else nifti(image, affine)
    put(data, QFORM, "6f", *[0.0] * 6)
    return put(data, CODES, "2h", qform, sform)


@pytest.mark.parametrize("axis", range(3))
def test_a_spacing_that_is_told_twice_may_differ_by_a_hundredth_of_its_own(tmp_path, axis):
    """A hundredth of the slices' 5 mm would be a tenth of a pixel's 0.5 mm."""
    for factor, is_near in ((1.009, True), (1.011, False), (0.991, True), (0.989, False)):
        path = write(tmp_path, put(placed(1, 1), PIXDIM + 4 * axis, "f", MM[axis] * factor))
        assert bool(read(path).notes) != is_near, factor
        path = write(tmp_path, put(placed(0, 1), PIXDIM + 4 * axis, "f", MM[axis] * factor))
        if is_near:
            assert read(path).spacing[2 - axis] == pytest.approx(MM[axis] * factor)
            continue
        assert read(path).spacing[2 - axis] == pytest.approx(MM[axis] * factor), "as Slicer reads it"
        (note,) = read(path).notes
        assert "scan.nii: its sform has voxels of 0.5, 0.5, 5 mm, its pixdim of " in note


def test_a_position_that_is_told_twice_may_differ_by_a_tenth_of_the_smallest_voxel(tmp_path):
    for mm, is_near in ((0.049, True), (0.051, False)):
        assert bool(read(write(tmp_path, put(placed(1, 1), SFORM + 12, "f", mm))).notes) != is_near


def test_a_single_slice_whose_thickness_only_its_sform_says_is_told(tmp_path):
    slice_of = np.random.default_rng(0).normal(size=(1, 8, 9)).astype(np.float32)
    path = write(tmp_path, put(placed(0, 1, slice_of), PIXDIM + 8, "f", 0.0))
    assert struct.unpack("<4h", path.read_bytes()[40:48])[0] == 3
    assert "voxels of 0.5, 0.5, 5 mm, its pixdim of 0.5, 0.5, 0 mm" in read(path).notes[0]  # ITK makes it 1 mm
    assert read(write(tmp_path, placed(0, 1, slice_of))).spacing[0] == 5.0


def test_an_image_that_says_nowhere_how_it_lies_is_segmented_and_that_is_told(tmp_path, tiny_model, capsys):
    path = write(tmp_path, put(nifti(blob_case(0)[0]), CODES, "2h", 0, 0))
    command = ["predict", "--model", str(tiny_model), "--input", str(path), "--output", str(tmp_path / "out")]
    assert run(command) == 0
    text = "scan.nii: has neither qform nor sform; it is read as LPS from 0"
    assert text in capsys.readouterr().err
    assert any(text in each for each in json.loads((tmp_path / "out" / "scan.json").read_text())["warnings"])
