"""Drawing noise levels: unbiased weights, the warm-up, what must not enter the history."""

import numpy as np
import pytest
import torch

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.training.time_sampling import WARM_UP, TimeSampler

AWARE = DiffusionConfig(time_sampling="loss_aware")
LOSSES = np.array([0.1, 0.2, 0.4, 0.8, 1.6])


def learned(diffusion=AWARE):
    """A sampler that has seen each of five levels with its own loss."""
    times = TimeSampler(diffusion, 5)
    for _ in range(3 * WARM_UP):
        times.update(torch.arange(5), torch.from_numpy(LOSSES))
    return times


def numbers(count):
    return torch.rand(count, generator=torch.Generator().manual_seed(0))


def test_even_draws_have_weight_one_and_leave_no_level_out():
    index, weight = TimeSampler(DiffusionConfig(), 5).draw(torch.tensor([0.0, 0.19, 0.2, 0.59, 0.6, 1 - 2**-24]))
    assert index.tolist() == [0, 0, 1, 2, 3, 4] and (weight == 1).all()


def test_hard_levels_come_more_often_and_the_weighted_mean_stays_the_even_one():
    times = learned()
    index, weight = times.draw(numbers(200_000))
    counts = np.bincount(index, minlength=5)
    assert (np.diff(counts) > 0).all()
    assert float((weight * torch.from_numpy(LOSSES)[index]).mean()) == pytest.approx(LOSSES.mean(), rel=0.01)
    p, drawn = times.probabilities(), np.array(counts) / 200_000
    np.testing.assert_allclose(drawn, p, atol=0.005)


def test_a_reference_s_weight_biases_the_mean():
    times = learned(DiffusionConfig(time_sampling="loss_aware", importance_weight="reference"))
    index, weight = times.draw(numbers(50_000))
    assert float((weight * torch.from_numpy(LOSSES)[index]).mean()) > 1.5 * LOSSES.mean()


def test_warming_up_gives_every_level_its_share_first():
    times, source = TimeSampler(AWARE, 5), torch.Generator().manual_seed(0)
    draws = 0
    while times.warming_up():
        index, weight = times.draw(torch.rand(1, generator=source))
        assert (weight == 1).all()
        times.update(index, torch.ones(1))
        draws += 1
    assert times.counts.tolist() == [WARM_UP] * 5 and draws == 5 * WARM_UP


def test_levels_that_are_left_out_are_never_drawn_and_the_rest_stays_unbiased():
    times = learned(DiffusionConfig(time_sampling="loss_aware", recycling_last=False))
    index, weight = times.draw(numbers(100_000))
    assert int(index.max()) == 3
    assert float((weight * torch.from_numpy(LOSSES)[index]).mean()) == pytest.approx(LOSSES[:4].mean(), rel=0.01)
    plain = TimeSampler(DiffusionConfig(recycling_last=False), 5)
    assert int(plain.draw(numbers(1000))[0].max()) == 3
    standard = TimeSampler(DiffusionConfig(strategy="standard", recycling_last=False), 5)
    assert int(standard.draw(numbers(1000))[0].max()) == 4


def test_a_loss_that_is_not_finite_is_not_remembered():
    times = learned()
    before = times.state
    times.update(torch.tensor([1, 2]), torch.tensor([float("nan"), float("inf")]))
    assert times.state == before


def test_a_supervised_network_has_no_levels_to_weigh():
    settings = DiffusionConfig(strategy="supervised", time_sampling="loss_aware", importance_weight="reference")
    times = TimeSampler(settings, 5)
    for _ in range(20):
        times.update(torch.arange(5), torch.arange(5.0))
    assert times.draw(torch.rand(100))[1].unique().tolist() == [1.0] and times.state == {}


@pytest.mark.parametrize("strategy", ["recycling", "recycling_next", "self_conditioning_next"])
def test_strategies_that_begin_at_a_noisier_level_leave_the_last_out_where_the_reference_does(strategy):
    assert TimeSampler(DiffusionConfig(strategy=strategy, recycling_last=False), 5).allowed == 4
    assert TimeSampler(DiffusionConfig(strategy=strategy), 5).allowed == 5
    assert TimeSampler(DiffusionConfig(strategy="standard", recycling_last=False), 5).allowed == 5
