"""Smoothing of the probabilities: the filter itself, how much training finds right, and the masks that it changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from conftest import TINY, blob_case
from DiffSegLib import config
from DiffSegLib.data.patches import Prepared
from DiffSegLib.data.smoothing import smoothed
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference import sampling
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models import store
from DiffSegLib.training.calibration import SMOOTHINGS, Answers, fit_smoothing
from DiffSegLib.training.run import train_folder

CPU = torch.device("cpu")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [0.4, 0.6, 1.2])
@pytest.mark.parametrize("shape", [(7, 9, 8), (6, 11), (1, 2, 30)])
def test_the_filter_is_a_gaussian_of_voxels_that_repeats_the_border(sigma, shape):
    p = (2 * normal(3, *shape)).softmax(0)
    found = smoothed(p, sigma)
    radius = int(np.ceil(3 * sigma))
    wanted = gaussian_filter(
        p.double().numpy(), (0, *[sigma] * len(shape)), mode="nearest", radius=(0, *[radius] * len(shape))
    )
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)
    torch.testing.assert_close(found.sum(0), torch.ones(shape))
    assert smoothed(p, 0.0) is p


class Answering(torch.nn.Module):
    """The given logits, whatever it is shown."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, _image, _mask, _t):
        return self.logits[None]


def case_of(label):
    return Prepared("case", normal(1, *label.shape), label, (1.0, 1.0, 1.0), ())


@pytest.mark.parametrize("classes", ["exclusive", "overlapping"])
def test_training_smooths_what_is_noisy_and_leaves_what_is_thin(classes):
    settings = config.from_json({"data": {"patch": [24, 24, 24]}, "diffusion": {"classes": classes}})
    ball = torch.zeros(24, 24, 24, dtype=torch.uint8)
    ball[6:18, 6:18, 6:18] = 1
    sheets = torch.zeros(24, 24, 24, dtype=torch.uint8)
    sheets[::3] = 1
    exact = {"ball": ball, "sheets": sheets}
    logits = {
        name: 4.0 * torch.nn.functional.one_hot(label.long(), 2).movedim(-1, 0) - 2.0 for name, label in exact.items()
    }
    noisy = Answering(logits["ball"] + 3.0 * normal(2, 24, 24, 24))
    assert fit_smoothing(Answers(noisy, [case_of(ball)], 2, settings, CPU)) >= 0.6
    assert fit_smoothing(Answers(Answering(logits["sheets"]), [case_of(sheets)], 2, settings, CPU)) == 0.0
    nothing = torch.zeros_like(ball)
    assert (
        fit_smoothing(
            Answers(
                Answering(-logits["ball"] * 0 + torch.tensor([1.0, -1.0])[:, None, None, None]),
                [case_of(nothing)],
                2,
                settings,
                CPU,
            )
        )
        == 0.0
    )
    assert fit_smoothing(Answers(noisy, [], 2, settings, CPU)) == 0.0


def test_every_step_of_a_prediction_is_smoothed_as_its_card_says(tiny_model, monkeypatch):
    model = store.load(tiny_model)
    scan = Volume(blob_case(0)[0][None], np.eye(4), "scan")
    asked = []
    monkeypatch.setattr(sampling, "smoothed", lambda p, sigma: asked.append(sigma) or smoothed(p, sigma))
    masks = [
        Predictor(replace(model, card=replace(model.card, smoothing=sigma)), "cpu")(
            scan, SegmentOptions(keep_steps=True)
        )
        for sigma in (0.0, 1.5)
    ]
    assert set(asked) == {0.0, 1.5} and asked.count(1.5) >= 5
    assert all((plain != smooth).any() for plain, smooth in zip(masks[0].steps, masks[1].steps, strict=True))


@pytest.mark.parametrize("wanted", [True, False])
def test_a_training_ends_with_its_smoothing_unless_it_is_switched_off(dataset, tmp_path, wanted):
    settings = config.from_json({**TINY, "training": {**TINY["training"], "smoothing": wanted}})
    card = store.load(train_folder(dataset, tmp_path / "run", settings, device="cpu")).card
    assert (card.smoothing in SMOOTHINGS[1:]) if wanted else card.smoothing == 0.0


@pytest.mark.parametrize("value", [-0.1, "1", True, None, float("nan"), 11])
def test_a_card_with_an_impossible_smoothing_is_refused(tiny_model, tmp_path, value):
    model = store.load(tiny_model)
    with pytest.raises(InputError, match="smoothing"):
        store.save(tmp_path / "odd.safetensors", model.network.state_dict(), replace(model.card, smoothing=value))
        store.load(tmp_path / "odd.safetensors")
