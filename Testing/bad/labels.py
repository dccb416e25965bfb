"""Label maps."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bad import READ, kind
from bad.headers import check_not_reached
from bad.images import nifti, put, write

LABELS = (np.indices((7, 8, 9)).sum(0) // 4 % 3).astype(np.uint8)
WHOLE = "labels must be whole numbers"


def with_value(value: float, dtype: str) -> np.ndarray:
    """The labels with another value in one voxel."""
    found = LABELS.astype(dtype)
    found[3, 4, 5] = value
    return found


for title, array, words in (
    ("half a label", with_value(0.5, "f4"), WHOLE),
    ("a label that is nearly whole", with_value(1.0001, "f8"), WHOLE),
    ("a negative label", with_value(-1, "i2"), WHOLE),
    ("label 256", with_value(256, "u2"), WHOLE),
    ("label 2^32, which is 0 in 32 bits", with_value(2**32, "i8"), WHOLE),
    ("label 2^64 - 1", with_value(2**64 - 1, "u8"), WHOLE),
    ("complex labels", LABELS + np.complex64(1j), "complex"),
    ("a label that is no number", with_value(np.nan, "f4"), "not numbers"),
    ("an infinite label", with_value(np.inf, "f8"), "not numbers"),
    ("two label maps in one file", np.stack([LABELS] * 2), "4 dimensions"),
):
    kind("label", f"NIfTI: {title}", words=words)(lambda folder, array=array: write(folder, nifti(array)))


for title, array in (("no number", with_value(np.nan, "f4")), ("label -1", with_value(-1, "i1"))):

    @kind("label", f"nrrd: {title}", words=WHOLE)
    def _(folder, array=array):
        return itk(folder, "scan.nrrd", array)


@kind("label", "nrrd: layers of overlapping segments", words="one value per voxel")
def _(folder):
    return itk(folder, "scan.seg.nrrd", np.stack([LABELS] * 2, -1), is_vector=True)


@kind("label", "nrrd: packed, one byte changed", words="damaged or incomplete")
def _(folder):
    return check_not_reached(folder, (np.indices((24, 24, 24)).sum(0) // 9 % 3).astype(np.uint8))


@kind("label", "png: colours for labels", words="one value per voxel")
def _(folder):
    return itk(folder, "scan.png", np.stack([LABELS[0]] * 3, -1), is_vector=True)


@kind("label", "NIfTI: a slope that makes labels fractions", words=WHOLE)
def _(folder):
    return write(folder, put(nifti(LABELS), 112, "2f", 0.5, 0.0))


def itk(folder: Path, name: str, array: np.ndarray, is_vector: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=is_vector), str(folder / name), useCompression=True)
    return folder / name


# odd, but right

for number in ("i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):

    @kind("label", f"NIfTI: labels of type {number}", READ)
    def _(folder, number=number):
        return write(folder, nifti(LABELS.astype(number)))


for name in ("scan.nrrd", "scan.mha", "scan.nii.gz"):

    @kind("label", f"{name[5:]}: labels of 64 bits, packed", READ)
    def _(folder, name=name):
        return itk(folder, name, LABELS.astype(np.int64))
