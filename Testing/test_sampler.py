"""The oracle test: with a network that is always right, the steps must follow the schedule and end exactly at x_0."""

import numpy as np
import pytest
import torch

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.diffusion.gaussian import (
    logits_to_x,
    mask_to_x,
    predict_noise,
    predict_x_start,
    q_posterior_mean,
    q_sample,
    x_to_mask,
)
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.diffusion.sampler import ddim_step, ddpm_step, sample_steps
from DiffSegLib.diffusion.schedule import make_schedule, respace

SCHEDULES = ("linear", "quadratic", "cosine", "cosine_imgx", "warmup10", "warmup50")
STEPS = range(1, 21)


def run_oracle(process, sampler, noises):
    """Every x_t along the way, with the truth x_0 = ones given at each step; noise[k] enters at index k."""
    seen = []
    schedule, x_start = process.schedule, torch.ones(1, 1, 4, dtype=torch.float64)

    class Spy:
        def __call__(self, mask, t):
            seen.append(t)
            return torch.zeros_like(x_start)  # logits of the only class: certain

    x_t = noises[-1]
    states = [x_t]
    for k in range(len(schedule) - 1, 0, -1):
        index = torch.tensor([k])
        if sampler == "ddim":
            x_t = ddim_step(schedule, x_start, x_t, index)
        else:
            x_t = ddpm_step(schedule, x_start, x_t, index, noises[k - 1])
        states.append(x_t)
    answers = list(sample_steps(Spy(), process, noises[-1], lambda k, _: noises[k - 1], sampler))
    return x_start, states, answers, seen


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_signal_and_noise_follow_the_schedule_at_every_step(name, steps, sampler):
    """x_t is linear in x_0 and the noises: read the coefficients off by feeding unit vectors.

    x_T is started from the forward process, so q(x_t | x_0) must hold exactly at each step.
    """
    schedule = respace(make_schedule(name, 1001), steps)
    x_start = torch.ones(1, 1, 1, dtype=torch.float64)

    def follow(signal, unit):
        """x_t for x_0 = signal and the unit-th of the independent noises set to 1, at each index from last to 0."""
        start, last = signal * x_start, len(schedule) - 1
        noise = [torch.full_like(start, float(n == unit)) for n in range(steps)]
        x_t = q_sample(schedule, start, torch.tensor([last]), noise[last])
        states = [x_t]
        for k in range(last, 0, -1):
            index = torch.tensor([k])
            args = (schedule, start, x_t, index)
            x_t = ddim_step(*args) if sampler == "ddim" else ddpm_step(*args, noise[k - 1])
            states.append(x_t)
        return [float(x) for x in states]

    signal = np.array(follow(1.0, -1))
    variance = sum(np.square(follow(0.0, unit)) for unit in range(steps))
    np.testing.assert_allclose(signal, np.sqrt(schedule.alphas_cumprod[::-1]), atol=1e-6)
    np.testing.assert_allclose(np.sqrt(variance), np.sqrt(1 - schedule.alphas_cumprod[::-1]), atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", range(1, 21))
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_perfect_prediction_ends_exactly_at_the_truth(name, steps, sampler):
    process = make_process(DiffusionConfig(schedule=name), steps)
    schedule = process.schedule
    noises = torch.randn(steps, 1, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_start, states, answers, times = run_oracle(process, sampler, list(noises))
    index = torch.tensor([0])
    assert torch.equal(answers[-1], x_start) and len(answers) == steps
    torch.testing.assert_close(ddim_step(schedule, x_start, states[-1], index), x_start, atol=1e-6, rtol=0)
    last = ddpm_step(schedule, x_start, states[-1], index, torch.full_like(x_start, 1e9))
    torch.testing.assert_close(last, x_start, atol=1e-6, rtol=0)
    np.testing.assert_allclose([float(t) for t in times], schedule.time[::-1], rtol=1e-6)


def test_ddim_with_eta_one_adds_the_posterior_variance():
    schedule = respace(make_schedule("linear", 1001), 5)
    zero, one = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    for k in range(1, 5):
        step = ddim_step(schedule, zero, zero, torch.tensor([k]), one, eta=1.0)
        assert float(step) == pytest.approx(np.sqrt(schedule.posterior_variance[k]), rel=1e-9)
        mean_coefficient = float(ddim_step(schedule, zero, one, torch.tensor([k]), zero, eta=1.0))
        assert mean_coefficient == pytest.approx(schedule.posterior_mean_coef_x_t[k], rel=1e-9)


def test_noise_and_truth_are_recovered_from_each_other():
    schedule = respace(make_schedule("linear", 1001), 5)
    source = torch.Generator().manual_seed(1)
    x, eps = (torch.randn(2, 3, 4, 4, 4, dtype=torch.float64, generator=source) for _ in range(2))
    index = torch.tensor([1, 3])
    x_t = q_sample(schedule, x, index, eps)
    torch.testing.assert_close(predict_noise(schedule, x, x_t, index), eps)
    torch.testing.assert_close(predict_x_start(schedule, eps, x_t, index), x)
    assert torch.equal(q_posterior_mean(schedule, x, x_t, torch.zeros(2, dtype=torch.long)), x)


def test_maps_between_spaces():
    logits = torch.tensor([[[0.0], [0.0]]])
    assert torch.equal(logits_to_x(logits), torch.zeros(1, 2, 1))
    assert torch.equal(x_to_mask(torch.tensor([-3.0, 0.0, 9.0])), torch.tensor([0.0, 0.5, 1.0]))
    mask = torch.tensor([0.0, 1.0])
    assert torch.equal(x_to_mask(mask_to_x(mask)), mask)


@pytest.mark.parametrize("variance", ["fixed_large", "learned", "learned_range"])
def test_the_sampler_adds_noise_of_the_configured_variance(variance):
    process = make_process(DiffusionConfig(variance=variance), 4)
    doubled = variance.startswith("learned")
    shape, source = (1, 2, 5), torch.Generator().manual_seed(0)
    outputs = [torch.randn(1, 4 if doubled else 2, 5, generator=source) for _ in range(4)]
    noises = [torch.randn(shape, generator=source) for _ in range(4)]
    x_t, shown, asked = torch.randn(shape, generator=source), [], iter(outputs)

    def denoise(mask, _):
        shown.append(mask)
        return next(asked)

    list(sample_steps(denoise, process, x_t.clone(), lambda k, _: noises[k], "ddpm"))
    for step, k in enumerate((3, 2, 1)):
        index = torch.tensor([k])
        guess = process.guess(outputs[step], x_t, index)
        x_t = ddpm_step(process.schedule, guess, x_t, index, noises[k], process.log_variance(outputs[step], index))
        torch.testing.assert_close(shown[step + 1], x_to_mask(x_t))


@pytest.mark.parametrize("parametrisation", ["epsilon", "v"])
def test_the_chain_goes_on_from_an_answer_within_its_bounds(parametrisation):
    process = make_process(DiffusionConfig(parametrisation=parametrisation), 3)
    x_t = torch.full((1, 2, 4), 30.0)
    index = torch.tensor([2])
    assert process.x_start(torch.zeros(1, 2, 4) - 9, x_t, index).abs().max() > 1
    assert process.guess(torch.zeros(1, 2, 4) - 9, x_t, index).abs().max() <= 1


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_the_noise_of_a_ddim_step_grows_in_proportion_to_eta(eta):
    schedule = respace(make_schedule("linear", 1001), 5)
    zero, one, index = torch.zeros(1, 1, 1), torch.ones(1, 1, 1), torch.tensor([3])
    added = ddim_step(schedule, zero, zero, index, one, eta) - ddim_step(schedule, zero, zero, index, zero, eta)
    assert float(added) == pytest.approx(eta * schedule.posterior_variance[3] ** 0.5, rel=1e-5)


def test_the_cleanest_level_and_a_schedule_of_one_step_have_a_variance_that_has_a_logarithm():
    schedule = respace(make_schedule("linear", 1001), 1)
    assert schedule.posterior_log_variance.tolist() == pytest.approx(np.log(schedule.betas).tolist())
    large = make_process(DiffusionConfig(variance="fixed_large"), 5)
    found = large.log_variance(torch.zeros(1, 2, 1), torch.tensor([0]))
    assert float(found.flatten()[0]) == pytest.approx(large.schedule.posterior_log_variance[0], rel=1e-5)
