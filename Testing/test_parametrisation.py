"""Parametrisations, learned variances and the variational bound against their definitions."""

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.stats import norm

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.diffusion.bound import binary_nll, noise_mse, normal_kl, variational_bound
from DiffSegLib.diffusion.gaussian import q_sample, x_to_logits
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.diffusion.sampler import ddim_step, ddpm_step, sample_steps
from DiffSegLib.inference.sampling import Sampling

SOURCE = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=SOURCE)


def outputs_of(process, x_start, noise, index):
    """The output with which each parametrisation says exactly (x_start, noise)."""
    level = torch.as_tensor(process.schedule.alphas_cumprod)[index].reshape(-1, 1, 1)
    v = level.sqrt() * noise - (1 - level).sqrt() * x_start  # Salimans & Ho 2022, section 4
    return {"epsilon": noise, "v": v}[process.config.parametrisation]


@pytest.mark.parametrize("parametrisation", ["epsilon", "v"])
def test_a_true_output_gives_back_truth_and_noise_at_every_level(parametrisation):
    process = make_process(DiffusionConfig(parametrisation=parametrisation), 5)
    x_start, noise, index = normal(5, 2, 3), normal(5, 2, 3), torch.arange(5)
    x_t = q_sample(process.schedule, x_start, index, noise)
    output = outputs_of(process, x_start, noise, index)
    torch.testing.assert_close(process.x_start(output, x_t, index), x_start)
    torch.testing.assert_close(process.noise(output, x_t, index), noise)
    assert float(noise_mse(process, output, x_t, index, noise).max()) < 1e-18


@pytest.mark.parametrize("parametrisation", ["epsilon", "v"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_network_that_predicts_noise_or_v_perfectly_ends_at_the_truth(parametrisation, sampler):
    process = make_process(DiffusionConfig(parametrisation=parametrisation), 7)
    x_start = torch.sign(normal(1, 2, 3))
    state = {}

    def denoise(mask, t):
        return state["output"]

    # the oracle needs x_t itself, which a network never gets: follow the chain beside the sampler
    noises = [normal(1, 2, 3) for _ in range(8)]
    x_t = noises[7]
    run = sample_steps(denoise, process, x_t, lambda k, _: noises[k], sampler)
    for k in range(6, -1, -1):
        index = torch.tensor([k])
        level = process.schedule.alphas_cumprod[k]
        eps = (x_t - level**0.5 * x_start) / (1 - level) ** 0.5
        state["output"] = outputs_of(process, x_start, eps, index)
        torch.testing.assert_close(next(run), x_start)
        step = ddim_step if sampler == "ddim" else ddpm_step
        x_t = step(process.schedule, x_start, x_t, index, noises[k])


def test_an_unbounded_answer_is_clipped_before_the_chain_goes_on():
    x_t, index = torch.full((1, 1, 1), 2.0), torch.tensor([4])
    for clip, wanted in ((True, 1.0), (False, 2.0 / 0.0063207613)):
        process = make_process(DiffusionConfig(parametrisation="epsilon", clip_x_start=clip), 5)
        assert float(process.guess(torch.zeros(1, 1, 1), x_t, index)) == pytest.approx(wanted, rel=1e-4)


def test_learned_range_lies_between_the_fixed_ones():
    schedule = make_process(DiffusionConfig(), 5).schedule
    process = make_process(DiffusionConfig(variance="learned_range"), 5)
    for k in range(1, 5):
        for extra, wanted in ((-40.0, schedule.posterior_variance[k]), (40.0, schedule.betas[k])):
            output = torch.cat([normal(1, 2, 3), torch.full((1, 2, 3), extra).double()], dim=1)
            found = process.log_variance(output, torch.tensor([k])).exp()
            torch.testing.assert_close(found, torch.full((1, 2, 3), wanted, dtype=torch.float64))


def test_stochastic_ddim_draws_noise_in_the_loop():
    process = make_process(DiffusionConfig(eta=1.0), 5)
    seen = {"ddim": [], "ddpm": []}
    noises = [normal(1, 2, 3) for _ in range(6)]
    for sampler, masks in seen.items():

        def denoise(mask, t, masks=masks):
            masks.append(mask)
            return 2 * mask

        list(sample_steps(denoise, process, noises[5], lambda k, _: noises[k], sampler))
    for a, b in zip(*seen.values(), strict=True):
        torch.testing.assert_close(a, b)  # with eta = 1 DDIM is DDPM


def test_divergence_of_two_normals_is_its_integral_and_is_not_symmetric():
    m1, v1, m2, v2 = 0.3, 0.5, -0.4, 2.0
    x = np.linspace(-15, 15, 200_001)
    p, q = norm(m1, v1**0.5), norm(m2, v2**0.5)
    wanted = trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x)
    a = torch.tensor([m1, np.log(v1), m2, np.log(v2)], dtype=torch.float64)
    assert float(normal_kl(*a)) == pytest.approx(wanted, rel=1e-6)
    assert float(normal_kl(a[2], a[3], a[0], a[1])) != pytest.approx(wanted, rel=0.1)


def test_likelihood_of_a_mask_is_the_normal_distribution_cut_at_zero():
    mean, variance = torch.tensor([0.7, 0.7], dtype=torch.float64), torch.tensor(0.36, dtype=torch.float64)
    found = binary_nll(torch.tensor([1.0, -1.0], dtype=torch.float64), mean, variance.log())
    below = norm.cdf(0.0, 0.7, 0.6)
    np.testing.assert_allclose(found, [-np.log(1 - below), -np.log(below)], rtol=1e-9)
    far = binary_nll(torch.tensor(-1.0), torch.tensor(1.0), torch.tensor(-9.2))
    assert torch.isfinite(far) and far > 1000  # a wrong and certain answer: finite, so that it can be learned from
    z = torch.tensor([-1e3, -1e5], requires_grad=True)
    binary_nll(torch.ones(2), z, torch.zeros(2)).sum().backward()
    np.testing.assert_allclose(z.grad, [-1e3, -1e5], rtol=1e-4)  # far out the slope of -log p is the distance


@pytest.mark.parametrize("schedule", ["linear", "cosine", "warmup50"])
@pytest.mark.parametrize("variance", ["fixed_small", "learned", "learned_range"])
def test_the_bound_of_an_unbounded_prediction_has_a_gradient_at_every_level(schedule, variance):
    process = make_process(DiffusionConfig(schedule=schedule, parametrisation="epsilon", variance=variance), 5)
    x_start, index = torch.sign(normal(5, 2, 4000)).float(), torch.arange(5)
    x_t = q_sample(process.schedule, x_start, index, normal(5, 2, 4000).float())
    output = normal(5, 2 if variance == "fixed_small" else 4, 4000).float().requires_grad_()
    variational_bound(process, output, x_start, x_t, index).sum().backward()
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("variance", ["fixed_small", "learned", "learned_range"])
def test_the_bound_is_zero_only_for_the_posterior_itself(variance):
    process = make_process(DiffusionConfig(variance=variance), 5)
    x_start = torch.sign(normal(4, 2, 3))
    index = torch.tensor([0, 1, 2, 4])
    x_t = q_sample(process.schedule, x_start, index, normal(4, 2, 3))
    logits = 30.0 * torch.stack([x_start[:, 0], -x_start[:, 0]], 1)  # certain, and channels must exclude each other
    x_start = torch.stack([x_start[:, 0], -x_start[:, 0]], 1)
    posterior = torch.as_tensor(process.schedule.posterior_log_variance)[index].reshape(-1, 1, 1).expand(x_start.shape)
    extra = {"fixed_small": [], "learned": [posterior], "learned_range": [torch.full_like(posterior, -40.0)]}[variance]
    right = variational_bound(process, torch.cat([logits, *extra], 1), x_start, x_t, index)
    wrong = variational_bound(process, torch.cat([0.01 * logits, *extra], 1), x_start, x_t, index)
    assert float(right.abs().max()) < 1e-6 and (wrong[1:] > right[1:] + 1e-6).all()
    if extra:
        wide = variational_bound(process, torch.cat([logits, extra[0] + 43.0], 1), x_start, x_t, index)
        assert (wide[1:] > 1e-6).all()


def test_the_bound_teaches_a_learned_variance_and_leaves_the_answer_to_the_other_losses():
    process = make_process(DiffusionConfig(variance="learned"), 5)
    output = normal(3, 4, 3).requires_grad_()
    x_start, x_t = torch.sign(normal(3, 2, 3)), normal(3, 2, 3)
    variational_bound(process, output, x_start, x_t, torch.tensor([0, 2, 4])).sum().backward()
    assert (output.grad[:, :2] == 0).all() and (output.grad[:, 2:] != 0).any(dim=2).all()
    plain = normal(3, 2, 3).requires_grad_()
    fixed = make_process(DiffusionConfig(), 5)
    variational_bound(fixed, plain, x_start, x_t, torch.tensor([0, 2, 4])).sum().backward()
    assert (plain.grad != 0).any()


def test_a_learned_variance_is_judged_by_the_mean_that_the_sampler_takes():
    x_start, x_t, index = torch.full((1, 1, 1), -1.0), torch.full((1, 1, 1), 2.0), torch.tensor([4])
    bounds = {}
    for clip in (True, False):
        process = make_process(DiffusionConfig(parametrisation="epsilon", variance="learned", clip_x_start=clip), 5)
        extra = float(process.schedule.posterior_log_variance[4])
        output = torch.tensor([0.0, extra]).reshape(1, 2, 1)
        bounds[clip] = float(variational_bound(process, output, x_start, x_t, index))
    assert bounds[False] / bounds[True] == pytest.approx(((1 + 2.0 / 0.0063207613) / 2.0) ** 2, rel=1e-3)


def test_the_noise_of_a_predicted_mask_is_what_is_left_of_x_t():
    process = make_process(DiffusionConfig(), 5)
    output, x_t, index = normal(5, 2, 3), normal(5, 2, 3), torch.arange(5)
    x_start, level = 2 * output.softmax(1) - 1, torch.as_tensor(process.schedule.alphas_cumprod).reshape(-1, 1, 1)
    torch.testing.assert_close(process.noise(output, x_t, index), (x_t - level.sqrt() * x_start) / (1 - level).sqrt())


def test_an_unbounded_prediction_becomes_logits_that_stay_finite():
    x = torch.tensor([[-3.0, -1.0, 0.0, 0.5, 1.0, 3.0]], dtype=torch.float64)
    p = torch.tensor([[1e-5, 1e-5, 0.5, 0.75, 1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(x_to_logits(x), p.log())
    p = p.clamp(max=1.0 - 1e-5)
    torch.testing.assert_close(x_to_logits(x, exclusive=False), (p / (1 - p)).log())


def test_overlapping_labels_do_not_compete():
    process = make_process(DiffusionConfig(classes="overlapping"), 5)
    x_start = process.x_start(torch.full((1, 3, 2), 9.0), torch.zeros(1, 3, 2), torch.tensor([0]))
    assert float(x_start.min()) > 0.99


def test_each_sample_of_a_batch_is_drawn_at_its_own_level():
    schedule = make_process(DiffusionConfig(), 5).schedule
    x_start, x_t, noise, log_variance = (normal(3, 2, 3, 3) for _ in range(4))
    index = torch.tensor([0, 2, 4])
    together = ddpm_step(schedule, x_start, x_t, index, noise, log_variance)
    for n in range(3):
        one = slice(n, n + 1)
        alone = ddpm_step(schedule, x_start[one], x_t[one], index[one], noise[one], log_variance[one])
        torch.testing.assert_close(together[one], alone)
    torch.testing.assert_close(together[0], x_start[0])
    assert not torch.equal(together[1], ddpm_step(schedule, x_start, x_t, index, 0 * noise, log_variance)[1])


@pytest.mark.parametrize("classes", ["exclusive", "overlapping"])
def test_what_a_volume_gets_are_probabilities_though_the_chain_is_not_clipped(classes):
    how = DiffusionConfig(parametrisation="epsilon", classes=classes, clip_x_start=False)

    class Silent(torch.nn.Module):
        def forward(self, image, mask, t):
            return 0.0 * mask

    for probability in Sampling(Silent(), 3, (8, 8), (1, 1), how).volumes(torch.zeros(1, 8, 8)):
        assert probability.min() >= 0 and probability.max() <= 1
        assert classes == "overlapping" or torch.allclose(probability.sum(0), torch.ones(8, 8))
