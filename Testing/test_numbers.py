"""What must not change a mask: precision, threads, running again. On the shipped model and a real brain."""

import numpy as np
import pytest
import torch

pytest.importorskip("nilearn", reason="the template comes with it")

from DiffSegLib.demo.template import CENTERS_RAS, SIZE_MM, box_around, load_template
from DiffSegLib.inference import predict
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models.shipped import find
from DiffSegLib.models.store import load
from DiffSegLib.network.precision import pick_precision

AGREEMENT = 0.995  # Dice between the masks of two precisions, every structure and step


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return load_template(tmp_path_factory.mktemp("template") / "mni152.nii.gz")


@pytest.fixture(scope="module")
def model():
    return load(find("hippocampus"))


def segment(model, volume, side):
    options = SegmentOptions(roi=box_around(volume, CENTERS_RAS[side], SIZE_MM), keep_steps=True, samples=2)
    return Predictor(model, "cpu")(volume, options)


def dice(one, other, value):
    one, other = one == value, other == value
    return 2.0 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.skipif(
    pick_precision("auto", torch.device("cpu")) != torch.bfloat16,
    reason="this processor has no bfloat16 and is never asked for it; test_sample_data compares what it makes of it",
)
@pytest.mark.parametrize("side", sorted(CENTERS_RAS))
def test_bfloat16_and_float32_give_the_same_mask_but_for_a_few_voxels(model, volume, side, monkeypatch):
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(predict, "pick_precision", lambda *_, dtype=dtype: dtype)
        found[dtype] = segment(model, volume, side)
        assert found[dtype].provenance["precision"] == str(dtype).removeprefix("torch.")
    for label in model.card.labels:
        for one, other in zip(found[torch.float32].steps, found[torch.bfloat16].steps, strict=True):
            assert dice(one, other, label.value) > AGREEMENT


def test_running_again_gives_the_same_mask_at_every_step(model, volume):
    one, again = (segment(model, volume, "left") for _ in range(2))
    for mask, other in zip((*one.steps, one.mask), (*again.steps, again.mask), strict=True):
        np.testing.assert_array_equal(mask, other)


def test_the_number_of_threads_changes_no_mask(model, volume):
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(segment(model, volume, "right"))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for mask, wanted in zip(other.steps, found[0].steps, strict=True):
            assert min(dice(mask, wanted, label.value) for label in model.card.labels) > AGREEMENT


def test_two_samples_of_the_shipped_model_disagree(model, volume):
    """The second one sees the image mirrored: by their noise alone a few voxels differ at most (7 in 3,000)."""
    region = box_around(volume, CENTERS_RAS["left"], SIZE_MM)
    one, two = (
        Predictor(model, "cpu")(volume, SegmentOptions(roi=region, samples=samples, uncertainty=True))
        for samples in (1, 2)
    )
    assert (one.mask != two.mask).sum() > 20
    assert np.abs(one.uncertainty - two.uncertainty).max() > 0.05
