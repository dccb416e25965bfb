"""Any volume, however it is stored: the mask of the turned image is the turned mask, through files and windows."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from conftest import write_image
from DiffSegLib.data.files import read, read_label, write_mask
from DiffSegLib.inference import sampling, windows
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.store import load
from tally import tried
from test_geometry import ORIENTATIONS, turned

spacings = st.floats(0.4, 3.0).map(lambda mm: round(mm, 2))


@st.composite
def volumes(draw):
    """(array (1, K, J, I), affine, a way to store it): of 2 to 40 voxels along each axis."""
    shape = draw(st.tuples(*[st.integers(2, 40)] * 3).filter(lambda n: n[0] * n[1] * n[2] < 20_000))
    affine = np.diag([*draw(st.tuples(*[spacings] * 3)), 1.0])
    if draw(st.booleans()):  # less than 45 degrees, so that the nearest axes stay what they are
        angles = draw(st.tuples(*[st.integers(-12, 12)] * 3))
        affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = draw(st.tuples(*[st.integers(-500, 500)] * 3))
    array = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(1, *shape)).astype(np.float32)
    return array, affine, draw(st.sampled_from(ORIENTATIONS))


@pytest.fixture(scope="module")
def predictor(tiny_model):
    return Predictor(load(tiny_model), "cpu")


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_volume=volumes(), ending=st.sampled_from(["nii.gz", "nrrd", "mha"]), layered=st.booleans())
def test_the_mask_of_a_turned_image_is_the_turned_mask(predictor, monkeypatch, given_volume, ending, layered):
    tried("orientations and formats")
    array, affine, (order, signs) = given_volume
    monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0 if layered else 3.0)
    monkeypatch.setattr(sampling, "STATE_BUDGET", 1 if layered else 1 << 30)
    stored, matrix = turned(array, affine, order, signs)
    masks, ml = [], []
    with tempfile.TemporaryDirectory() as folder:
        for n, (voxels, place) in enumerate([(array, affine), (stored, matrix)]):
            path = write_image(Path(folder) / f"{n}.{ending}", voxels[0], place)
            found = predictor(read(path), SegmentOptions(steps=2))
            write_mask(Path(folder) / f"mask{n}.{ending}", found.mask, place)
            mask, where = read_label(Path(folder) / f"mask{n}.{ending}")
            np.testing.assert_array_equal(mask, found.mask)
            np.testing.assert_allclose(where, place, atol=1e-3)
            masks.append(mask)
            ml.append(found.volumes_ml)
    back, _ = turned(masks[0][None], affine, order, signs)
    assert (back[0] == masks[1]).mean() > 0.998, "but for ties in the last digit"
    voxel = float(np.prod(np.linalg.norm(affine[:3, :3], axis=0))) / 1000
    for mask, sizes in zip(masks, ml, strict=True):
        for value, size in sizes.items():
            assert size == pytest.approx((mask == value).sum() * voxel, rel=1e-4, abs=1e-5)
