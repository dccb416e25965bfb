"""Training strategies: what the network is shown, with a gradient or without, and that each row trains and segments."""

import numpy as np
import pytest
import torch

from conftest import TINY
from DiffSegLib import config
from DiffSegLib.config import DiffusionConfig
from DiffSegLib.data.volume import Volume
from DiffSegLib.diffusion.process import make_process, mask_channels
from DiffSegLib.diffusion.sampler import sample_steps
from DiffSegLib.diffusion.strategies import STRATEGIES
from DiffSegLib.errors import InputError
from DiffSegLib.inference.predict import Predictor
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.models import store
from DiffSegLib.training.run import train_folder

LAST = 4


class Fixed:
    """The same noise each time; uniform numbers that are below every probability."""

    def __init__(self, noise):
        self.noise = noise

    def normal(self):
        return self.noise.clone()

    def uniform(self):
        return torch.zeros(len(self.noise))


class Recorder:
    """A network whose answer is always class 1, and what it was shown."""

    def __init__(self):
        self.calls = []

    def __call__(self, mask, index, rows=None):
        self.calls.append((mask, index.tolist(), torch.is_grad_enabled()))
        return torch.stack([torch.full((len(index), 4), -20.0), torch.full((len(index), 4), 20.0)], 1)


def shown(strategy, index, **changes):
    """The calls of a strategy on a truth that is class 0 and 1 at once, without noise; and the signal of each level."""
    process = make_process(DiffusionConfig(strategy=strategy, **changes), 5)
    network, x_start = Recorder(), torch.ones(len(index), 2, 4)
    answer = STRATEGIES[strategy](network, x_start, process, torch.tensor(index), Fixed(torch.zeros_like(x_start)))
    assert answer.x_t.shape == x_start.shape
    return network.calls, np.sqrt(process.schedule.alphas_cumprod)


def assert_class_0(mask, row, x):
    """Channel 0 of a row was the x-space value x."""
    torch.testing.assert_close(mask[row, 0], torch.full((4,), (1 + float(x)) / 2))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_the_judged_pass_records_a_gradient_and_is_told_the_drawn_time(strategy):
    calls, _ = shown(strategy, [0, 2, LAST])
    assert [grad for *_, grad in calls] == [False] * (len(calls) - 1) + [True]
    assert calls[-1][1] == [0, 2, LAST]
    passes = {"supervised": 1, "standard": 1, "unrolled": 5}
    assert len(calls) == passes.get(strategy, 2)


def test_standard_shows_the_noised_truth_and_supervised_nothing():
    calls, signal = shown("standard", [0, LAST])
    assert_class_0(calls[0][0], 0, signal[0])
    assert shown("supervised", [0])[0][0][0] is None


def test_recycling_shows_the_answer_from_the_last_level_and_at_that_level_the_noised_truth():
    calls, signal = shown("recycling", [0, LAST])
    assert calls[0][1] == [LAST, LAST]
    assert_class_0(calls[1][0], 0, -signal[0])  # its own answer: not class 0
    assert_class_0(calls[1][0], 1, signal[LAST])


@pytest.mark.parametrize("reverse", [False, True])
def test_recycling_next_shows_the_answer_from_the_level_before(reverse):
    calls, signal = shown("recycling_next", [1, LAST], reverse_step=reverse)
    assert calls[0][1] == [2, LAST]
    schedule = make_process(DiffusionConfig(), 5).schedule
    mean = -schedule.posterior_mean_coef_x_start[2] + schedule.posterior_mean_coef_x_t[2] * signal[2]
    assert_class_0(calls[1][0], 0, mean if reverse else -signal[1])
    assert_class_0(calls[1][0], 1, signal[LAST])


def test_self_conditioning_adds_the_first_answer_as_a_second_mask():
    calls, signal = shown("self_conditioning", [1])
    assert calls[0][1] == [1] and (calls[0][0][:, 2:] == 0).all()
    assert_class_0(calls[1][0], 0, signal[1])
    assert_class_0(calls[1][0][:, 2:], 0, -1.0)
    never, _ = shown("self_conditioning", [1], self_conditioning_probability=0.0)
    assert (never[1][0][:, 2:] == 0).all()


def test_self_conditioning_on_the_step_before_starts_empty_as_the_sampler_does():
    calls, signal = shown("self_conditioning_next", [1, LAST])
    assert calls[0][1] == [2, LAST]
    assert_class_0(calls[1][0][:, 2:], 0, -1.0)
    assert_class_0(calls[1][0], 1, signal[LAST])
    assert (calls[1][0][1, 2:] == 0).all()


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_unrolled_training_walks_the_samplers_own_way(eta):
    """The input at t must be what the DDIM sampler reaches from the same noise, row by row, without gradient."""
    process = make_process(DiffusionConfig(eta=eta), 5)
    noise = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    bias = torch.tensor([0.3, -1.0, 2.0])
    calls = []

    def predict(mask, at, rows=None):
        rows = torch.arange(3) if rows is None else rows
        calls.append((mask, at))
        return 3 * mask + bias[rows].reshape(-1, 1, 1) * torch.tensor([1.0, -1.0]).reshape(1, 2, 1)

    index = torch.tensor([4, 2, 0])
    STRATEGIES["unrolled"](predict, torch.zeros(3, 2, 4), process, index, Fixed(noise))
    assert [at.tolist() for _, at in calls] == [[4, 4], [3, 3], [2], [1], [4, 2, 0]]
    for row, k in enumerate(index.tolist()):
        seen = []

        def denoise(mask, t, row=row, seen=seen):
            seen.append(mask)
            return predict(mask, index[:1], torch.tensor([row]))

        list(sample_steps(denoise, process, noise[row : row + 1], lambda *_, row=row: noise[row : row + 1]))
        torch.testing.assert_close(calls[4][0][row : row + 1], seen[4 - k])


def test_the_sampler_feeds_its_last_answer_back_to_a_self_conditioned_network():
    process, network = make_process(DiffusionConfig(strategy="self_conditioning"), 3), Recorder()
    x_t = torch.zeros(1, 2, 4)
    list(sample_steps(lambda mask, t: network(mask, torch.zeros(1)), process, x_t, lambda *_: x_t))
    seconds = [mask[:, 2:] for mask, *_ in network.calls]
    assert (seconds[0] == 0).all()
    for mask in seconds[1:]:
        assert_class_0(mask, 0, -1.0)


def test_a_supervised_network_is_asked_once_and_its_answer_stands_at_every_step():
    process, network = make_process(DiffusionConfig(strategy="supervised"), 5), Recorder()
    x_t = torch.randn(1, 2, 4)
    answers = list(sample_steps(lambda mask, t: network(mask, torch.zeros(1)), process, x_t, lambda *_: x_t))
    assert len(network.calls) == 1 and len(answers) == 5
    assert all(torch.equal(answer, answers[0]) for answer in answers)


EVERY_ROW = [{"strategy": name} for name in STRATEGIES] + [
    {"strategy": "recycling_next", "reverse_step": True},
    {"strategy": "standard", "parametrisation": "epsilon"},
    {"strategy": "recycling", "parametrisation": "v", "variance": "learned_range"},
    {"strategy": "standard", "variance": "learned", "eta": 1.0},
    {"strategy": "recycling", "classes": "overlapping", "train_steps": 1001, "time": "index"},
    {"strategy": "recycling_next", "recycling_last": False, "time_sampling": "loss_aware"},
]


@pytest.mark.parametrize("row", EVERY_ROW, ids=lambda row: "-".join(str(value) for value in row.values()))
def test_every_row_trains_to_a_model_that_segments(dataset, tmp_path, row):
    loss = {} if row["strategy"] == "supervised" else {"mse": 0.1, "vlb": 0.01}
    tiny = {**TINY, "diffusion": row, "loss": loss}
    tiny["training"] = {**TINY["training"], "iterations": 2, "validations": 1}
    settings = config.from_json(tiny)
    model = store.load(train_folder(dataset, tmp_path / "run", settings, device="cpu"))
    assert model.card.diffusion == settings.diffusion
    image, mask = torch.randn(1, 1, 8, 8, 8), torch.zeros(1, mask_channels(settings.diffusion, 3), 8, 8, 8)
    blank, full = (model.network(image, each, torch.ones(1)) for each in (mask, mask + 1.0))
    assert torch.equal(blank, full) == (row["strategy"] == "supervised")
    volume = Volume(np.random.default_rng(0).normal(size=(1, 10, 12, 11)).astype(np.float32), np.eye(4), "noise")
    predictor = Predictor(model, "cpu")
    predictor.warm_up()
    masks = [predictor(volume, SegmentOptions(sampler=sampler)).mask for sampler in ("ddim", "ddpm")]
    assert all(mask.shape == (10, 12, 11) and set(np.unique(mask)) <= {0, 1, 2} for mask in masks)


def test_settings_that_contradict_each_other_are_refused_with_the_way_out(dataset, tmp_path):
    with pytest.raises(InputError, match=r"supervised needs parametrisation x_start"):
        config.from_json({"diffusion": {"strategy": "supervised", "parametrisation": "v"}})
    with pytest.raises(InputError, match=r"loss\.vlb alone"):
        changed = config.override(config.from_json(TINY), ["diffusion.variance=learned"])
        train_folder(dataset, tmp_path / "a", changed, device="cpu")
    with pytest.raises(InputError, match=r"there is no noise"):
        changed = config.override(config.from_json(TINY), ["diffusion.strategy=supervised", "loss.mse=1"])
        train_folder(dataset, tmp_path / "b", changed, device="cpu")


@pytest.mark.parametrize("strategy", ["recycling", "recycling_next", "unrolled"])
def test_passes_without_gradient_go_on_from_an_answer_within_its_bounds(strategy):
    """With a predicted noise the first answer may be hundreds; the sampler would clip it, and so does training."""
    process = make_process(DiffusionConfig(strategy=strategy, parametrisation="epsilon"), 5)

    def predict(mask, index, rows=None):
        return torch.full((len(index), 2, 4), -50.0)

    zeros = torch.zeros(2, 2, 4)
    answer = STRATEGIES[strategy](predict, zeros + 1, process, torch.tensor([0, 1]), Fixed(zeros))
    assert answer.x_t.abs().max() <= 60.0 if strategy == "unrolled" else answer.x_t.abs().max() <= 1.0
