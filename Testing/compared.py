"""Two folders of masks that can be measured against each other."""

from pathlib import Path

import numpy as np
import pytest

from DiffSegLib.data.files import write_mask
from DiffSegLib.labels import Label

SPACING_IJK = (0.7, 1.1, 2.5)
AFFINE = np.array([[0.7, 0, 0, -20.0], [0, 0, 2.5, 5.0], [0, -1.1, 0, 33.0], [0, 0, 0, 1]])  # a coronal acquisition
LABELS = (Label(1, "Anterior"), Label(2, "Posterior"))


def mask(shift: int = 0) -> np.ndarray:
    array = np.zeros((8, 12, 14), dtype=np.uint8)
    array[2:6, 2 + shift : 6 + shift, 3:10] = 1
    array[2:6, 6 + shift : 9 + shift, 3:10] = 2
    return array


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Cases a, b, c: a is exact, b is one voxel off, c lacks structure 2."""
    prediction, reference = tmp_path / "prediction", tmp_path / "reference"
    for folder in (prediction, reference):
        folder.mkdir()
    lacking = mask()
    lacking[lacking == 2] = 0
    for name, predicted in (("a", mask()), ("b", mask(1)), ("c", lacking)):
        write_mask(prediction / f"{name}.seg.nrrd", predicted, AFFINE, LABELS)
        write_mask(reference / f"{name}.nii.gz", mask(), AFFINE)
    return prediction, reference
