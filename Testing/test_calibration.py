"""Uncertainty that says how often the model is wrong: entropy, and the temperature that training ends with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import TINY, blob_case
from DiffSegLib import config
from DiffSegLib.data.patches import Prepared
from DiffSegLib.data.volume import Volume
from DiffSegLib.errors import InputError
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.inference.uncertainty import entropy, tempered, uncertainty
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models import store
from DiffSegLib.models.join import join
from DiffSegLib.training import run as training_run
from DiffSegLib.training.calibration import Answers, at_an_end, fit_temperature
from DiffSegLib.training.run import train_folder

CPU = torch.device("cpu")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_entropy_of_known_probabilities():
    values = entropy(torch.tensor([[0.5, 1.0], [0.5, 0.0]]))
    assert values.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8])
def test_a_temperature_divides_the_logits(temperature):
    logits = 2 * normal(4, 1000)
    found = tempered(logits.softmax(0), temperature, exclusive=True)
    torch.testing.assert_close(found, (logits / temperature).softmax(0), atol=1e-5, rtol=1e-3)
    single = tempered(logits.sigmoid(), temperature, exclusive=False)
    torch.testing.assert_close(single, (logits / temperature).sigmoid(), atol=1e-5, rtol=1e-3)


def test_a_higher_temperature_is_less_sure():
    p = (3 * normal(3, 1000)).softmax(0)
    assert uncertainty(p, 2.0, True).mean() > uncertainty(p, 1.0, True).mean() > uncertainty(p, 0.5, True).mean()


class Boastful(torch.nn.Module):
    """Answers with given logits, `times` too large, whatever it is shown."""

    def __init__(self, logits, times):
        super().__init__()
        self.logits, self.times = logits, times

    def forward(self, _image, _mask, _t):
        return self.times * self.logits[None]


@pytest.mark.parametrize("times", [0.7, 1.0, 2.5])
@pytest.mark.parametrize("classes", ["exclusive", "overlapping"])
def test_the_temperature_is_what_a_network_boasts_by(times, classes):
    logits = 1.5 * normal(3, 24, 24, 24)
    noise = torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(1))
    regions = None
    if classes == "exclusive":
        label = (noise > logits.softmax(0).cumsum(0)).sum(0).clamp_max(2)
    else:  # label values 1, 2, 3 are: the first region, the second, both
        drawn = torch.rand(2, 24, 24, 24, generator=torch.Generator().manual_seed(2)) < logits[1:].sigmoid()
        label, regions = drawn[0] + 2 * drawn[1], torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]])
    case = Prepared("case", normal(1, 24, 24, 24), label.to(torch.uint8), (1.0, 1.0, 1.0), ())
    settings = config.from_json({"data": {"patch": [24, 24, 24]}, "diffusion": {"classes": classes}})
    found = fit_temperature(Answers(Boastful(logits, times), [case], 3, settings, CPU, regions))
    assert found == pytest.approx(times, rel=0.06)


def test_labels_that_may_overlap_are_calibrated_one_by_one_as_their_uncertainty_is_told():
    label = torch.randint(0, 3, (24, 24, 24), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    case = Prepared("case", normal(1, 24, 24, 24), label, (1.0, 1.0, 1.0), ())
    settings = config.from_json({"data": {"patch": [24, 24, 24]}, "diffusion": {"classes": "overlapping"}})
    network = Boastful(normal(3, 24, 24, 24) + 3.0 * torch.nn.functional.one_hot(label.long(), 3).movedim(-1, 0), 1.0)
    found = [fit_temperature(Answers(network, [case], 3, settings, CPU, regions)) for regions in (None, torch.eye(3))]
    assert found[0] == found[1]


def test_without_structures_the_temperature_is_one():
    case = Prepared("case", normal(1, 16, 16, 16), torch.zeros(16, 16, 16, dtype=torch.uint8), (1.0, 1.0, 1.0), ())
    settings = config.from_json({"data": {"patch": [16, 16, 16]}})
    assert fit_temperature(Answers(Boastful(normal(3, 16, 16, 16), 2.0), [case], 3, settings, CPU)) == 1.0


def test_training_ends_with_a_temperature_that_the_uncertainty_follows_and_no_mask(dataset, tmp_path):
    model = store.load(train_folder(dataset, tmp_path / "run", config.from_json(TINY), device="cpu"))
    assert 0.5 <= model.card.temperature <= 5.0 and model.card.temperature != 1.0
    scan = Volume(blob_case(0)[0][None], np.eye(4), "scan")
    options = SegmentOptions(uncertainty=True)
    answers = [
        Predictor(replace(model, card=replace(model.card, temperature=t)), "cpu")(scan, options) for t in (1.0, 3.0)
    ]
    np.testing.assert_array_equal(answers[0].mask, answers[1].mask)
    assert answers[1].uncertainty.mean() > answers[0].uncertainty.mean()


def test_a_number_at_the_end_of_what_was_tried_is_told(dataset, tmp_path, monkeypatch):
    assert at_an_end(0.0, 1.0) == at_an_end(1.0, 4.8) == ""
    assert "smoothing of 1.2 voxels and temperature of 5 is at the end" in at_an_end(1.2, 5.0)
    sure = fit_temperature(boasting(0.01)), fit_temperature(boasting(100.0))
    assert sure == (0.5, 5.0) and all(f"temperature of {t:g} is" in at_an_end(0.4, t) for t in sure)
    monkeypatch.setattr(training_run, "fit_temperature", lambda *_: 5.0)
    heard = []
    train_folder(dataset, tmp_path / "run", config.from_json(TINY), device="cpu", listener=heard.append)
    assert sum("temperature of 5 is at the end" in event.get("text", "") for event in heard) == 1


def boasting(times):
    logits = 1.5 * normal(3, 24, 24, 24)
    noise = torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(1))
    label = (noise > logits.softmax(0).cumsum(0)).sum(0).clamp_max(2)
    case = Prepared("case", normal(1, 24, 24, 24), label.to(torch.uint8), (1.0, 1.0, 1.0), ())
    return Answers(Boastful(logits, times), [case], 3, config.from_json({"data": {"patch": [24, 24, 24]}}), CPU)


def test_an_ensemble_has_its_members_mean_temperature_and_smoothing(tiny_model, tmp_path):
    model = store.load(tiny_model)
    for name, temperature, smoothing in (("one", 1.5, 0.5), ("two", 2.5, 0.8)):
        card = replace(model.card, name=name, temperature=temperature, smoothing=smoothing)
        store.save(tmp_path / f"{name}.safetensors", model.network.state_dict(), card)
    names = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for card in (join(names, "both", tmp_path / "both.safetensors"), store.load(tmp_path / "both.safetensors").card):
        assert (card.temperature, card.smoothing) == (2.0, 0.65)


@pytest.mark.parametrize("value", [0, -1, "2", True, None, float("nan"), 1000])
def test_a_card_with_an_impossible_temperature_is_refused(tiny_model, tmp_path, value):
    model = store.load(tiny_model)
    card = replace(model.card, temperature=value)
    with pytest.raises(InputError, match="temperature"):
        store.save(tmp_path / "odd.safetensors", model.network.state_dict(), card)
        store.load(tmp_path / "odd.safetensors")
