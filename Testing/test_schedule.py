"""Schedules and respacing: closed forms, the reference's numbers, and the exactness that five steps need."""

import numpy as np
import pytest

from DiffSegLib.diffusion.schedule import make_betas, make_schedule, respace
from DiffSegLib.errors import InputError

NAMES = ("linear", "quadratic", "cosine", "cosine_imgx", "warmup10", "warmup50")


def test_five_of_1001_linear_steps_have_the_published_levels():
    schedule = respace(make_schedule("linear", 1001), 5)
    np.testing.assert_allclose(schedule.alphas_cumprod, [0.99990, 0.52175, 0.077992, 0.0033189, 3.9952e-5], rtol=2e-5)
    np.testing.assert_allclose(schedule.betas, [1.0e-4, 0.47820, 0.85052, 0.95745, 0.98796], rtol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_betas_are_probabilities_and_signal_only_falls(name):
    schedule = make_schedule(name, 1001)
    assert ((schedule.betas > 0) & (schedule.betas < 1)).all()
    assert (np.diff(schedule.alphas_cumprod) < 0).all()


@pytest.mark.parametrize("total", [10, 100, 1000, 1001])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 10])
def test_respacing_keeps_the_levels_themselves_for_any_count(total, steps):
    full = make_schedule("linear", total)
    kept = respace(full, steps)
    np.testing.assert_array_equal(kept.alphas_cumprod, full.alphas_cumprod[kept.indices])
    assert kept.indices[-1] == total - 1 and (steps == 1 or kept.indices[0] == 0)
    assert len(set(kept.indices)) == steps
    np.testing.assert_allclose(np.cumprod(1 - kept.betas), kept.alphas_cumprod, rtol=1e-9)


def test_a_noise_level_has_one_time_however_many_steps_are_taken():
    full, five = make_schedule("linear", 1001), respace(make_schedule("linear", 1001), 5)
    np.testing.assert_array_equal(five.time, full.time[five.indices])
    np.testing.assert_allclose(five.time_of_index, [0.2, 0.4, 0.6, 0.8, 1.0])


def test_true_cosine_follows_its_definition():
    u = (np.arange(1, 1001) / 1000 + 0.008) / 1.008
    wanted = (np.cos(u * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2
    np.testing.assert_allclose(make_schedule("cosine", 1000).alphas_cumprod[:-1], wanted[:-1], rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 1002, -1])
def test_impossible_step_counts_are_refused_with_the_range(steps):
    with pytest.raises(InputError, match="from 1 to 1001"):
        respace(make_schedule("linear", 1001), steps)


def test_an_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="quadratic"):
        make_betas("quadradic", 10)


def test_the_true_cosine_ends_at_the_paper_s_largest_beta():
    betas = make_betas("cosine", 1000)
    assert betas[-1] == 0.999 and betas[-2] < 0.999  # Nichol & Dhariwal 2021, below eq. 17


def test_a_level_halfway_between_two_is_rounded_up():
    assert respace(make_schedule("linear", 12), 5).indices.tolist() == [0, 3, 6, 8, 11]


def test_the_defaults_are_the_reference_s_betas():
    np.testing.assert_allclose(make_betas("linear", 3), [1e-4, 0.01005, 0.02], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_a_schedule_and_none_is_not(name):
    betas = make_betas(name, 1, 0.1, 0.3)
    assert betas.shape == (1,) and 0.0 < betas[0] < 1.0
    with pytest.raises(InputError, match="at least one step, not 0"):
        make_betas(name, 0)


@pytest.mark.parametrize(("name", "timesteps"), [("warmup10", 9), ("warmup10", 19), ("warmup50", 3)])
def test_the_shortest_warm_up_is_one_step(name, timesteps):
    np.testing.assert_allclose(make_betas(name, timesteps, 0.1, 0.3), [0.1] + [0.3] * (timesteps - 1), rtol=1e-12)


def test_two_steps_of_the_reference_s_cosine_are_its_ends():
    np.testing.assert_allclose(make_betas("cosine_imgx", 2, 0.1, 0.3), [0.1, 0.3], rtol=1e-12)


def test_the_known_schedules_are_named():
    with pytest.raises(InputError) as told:
        make_betas("magic", 10)
    assert str(told.value) == f"unknown schedule 'magic'; allowed: {', '.join(NAMES)}."
