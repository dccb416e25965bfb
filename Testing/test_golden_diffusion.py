"""Schedules, spaces, steps and whole chains against the reference's numbers."""

import numpy as np
import pytest
import torch

from DiffSegLib.config import DiffusionConfig
from DiffSegLib.diffusion.bound import noise_mse, variational_bound
from DiffSegLib.diffusion.gaussian import (
    logits_to_x,
    mask_to_x,
    predict_noise,
    predict_x_start,
    q_posterior_mean,
    q_sample,
    x_to_logits,
    x_to_mask,
)
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.diffusion.sampler import ddim_step, ddpm_step, sample_steps
from DiffSegLib.diffusion.schedule import make_schedule, respace
from DiffSegLib.network.blocks import TimeEmbedding
from golden import GOLDEN, SPELLED, ToyNetwork, close, field, given

RESPACED = [key for key in GOLDEN["respaced"] if not key.startswith("error")]
STEPS = [key for key in GOLDEN["steps"] if "BUG" not in key]


def process(**changes):
    return make_process(DiffusionConfig(time="index", **changes), 5)


def parts(key):
    """`linear_T1001_K5` -> our name of the schedule and the numbers."""
    name, *numbers = key.split("_")
    return SPELLED.get(name, name), *(int(n[1:]) for n in numbers)


@pytest.mark.parametrize("key", GOLDEN["schedules"])
def test_schedules(key):
    wanted = GOLDEN["schedules"][key]
    schedule = make_schedule(*parts(key))
    close(schedule.betas[wanted["index"]], wanted["betas"])
    close(schedule.alphas_cumprod[wanted["index"]], wanted["alphas_cumprod"])
    close(schedule.betas.sum(), wanted["sum_betas"])


def test_the_reference_s_cosine_is_not_the_cosine_of_nichol_and_dhariwal():
    wanted = GOLDEN["schedules"]["cosine_T1001"]
    found = make_schedule("cosine", 1001).alphas_cumprod[wanted["index"]]
    assert np.abs(found / wanted["alphas_cumprod"] - 1).max() > 0.1


@pytest.mark.parametrize("key", RESPACED)
def test_respaced_schedules(key):
    wanted = GOLDEN["respaced"][key]
    name, total, steps = parts(key)
    schedule = respace(make_schedule(name, total), steps)
    levels = schedule.alphas_cumprod
    found = {
        "betas": schedule.betas,
        "alphas_cumprod": levels,
        "alphas_cumprod_prev": schedule.alphas_cumprod_prev,
        "alphas_cumprod_next": np.append(levels[1:], 0.0),
        "sqrt_alphas_cumprod": np.sqrt(levels),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - levels),
        "log_one_minus_alphas_cumprod": np.log(1 - levels),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / levels),
        "sqrt_recip_alphas_cumprod_minus_one": np.sqrt(1 / levels - 1),
        "posterior_mean_coeff_start": schedule.posterior_mean_coef_x_start,
        "posterior_mean_coeff_t": schedule.posterior_mean_coef_x_t,
        "posterior_variance": schedule.posterior_variance,
        "posterior_log_variance_clipped": schedule.posterior_log_variance,
    }
    assert set(found) == set(wanted)
    for quantity, values in found.items():
        close(values, wanted[quantity])


@pytest.mark.parametrize("key", [key for key in GOLDEN["respaced"] if key.startswith("error")])
def test_step_counts_that_the_reference_refuses_are_fine(key):
    _, total, steps = key.split("_")
    schedule = respace(make_schedule("linear", int(total[1:])), int(steps[1:]))
    close(np.cumprod(1 - schedule.betas), schedule.alphas_cumprod)


def test_time():
    wanted = GOLDEN["time"]
    index = torch.arange(5)
    close(process().time(index), wanted["t_of_index_K5"])
    # the same noise in 1001-step training: what ours is told by default, and what five steps of the reference are not
    ours = make_process(DiffusionConfig(), 5).time(index)
    close(ours, wanted["train_t_at_respaced_index_T1001"])
    assert np.abs(ours.numpy() - wanted["t_of_index_K5"]).max() > 0.1


def test_time_embedding():
    wanted = GOLDEN["time"]
    t = torch.tensor(wanted["t"], dtype=torch.float64)
    # sines of up to 10000 rad, given back in float32
    np.testing.assert_allclose(TimeEmbedding(8)(t), wanted["embedding_dim8"], atol=1e-6)
    columns = [0, 1, 2, 3, 128, 129, 130, 131]
    found = TimeEmbedding(256)(t)[:, columns]
    np.testing.assert_allclose(found, wanted["embedding_dim256_first4_and_128to132"], atol=1e-6)


def test_maps_between_spaces():
    wanted = GOLDEN["space_maps"]
    close(mask_to_x(given("mask")), field(wanted["mask_to_x"]))
    close(logits_to_x(given("model_out")), field(wanted["model_out_to_x_softmax"]))
    close(logits_to_x(given("model_out"), exclusive=False), field(wanted["model_out_to_x_sigmoid"]))
    close(x_to_mask(given("noise")), field(wanted["x_to_mask_of_noise"]))
    close(x_to_logits(logits_to_x(given("model_out"))), field(wanted["x_to_logits_of_model_x"]))


def test_forward_process():
    schedule, x_start = process().schedule, mask_to_x(given("mask"))
    for key, wanted in GOLDEN["q_sample_K5"].items():
        close(q_sample(schedule, x_start, torch.full((2,), int(key)), given("noise")), field(wanted))
    mixed = q_sample(schedule, x_start, torch.tensor([1, 3]), given("noise"))
    close(mixed, field(GOLDEN["q_sample_K5_mixed_t_[1,3]"]))
    close(q_sample(schedule, x_start, torch.tensor([2, 2]), given("noise")), field(GOLDEN["x_t_used_below"]))


@pytest.mark.parametrize("key", STEPS)
def test_one_reverse_step(key):
    sampler, rest = key.split("_", 1)
    target = "x_start" if rest.startswith("x_start") else "epsilon"
    variance, _, at = rest.removeprefix("x_start_").removeprefix("noise_").rpartition("_t")
    diffusion = process(parametrisation=target, variance=variance)
    output = given("model_out_6ch_for_learned_variance" if variance.startswith("learned") else "model_out")
    x_t, index = field(GOLDEN["x_t_used_below"]), torch.full((2,), int(at))
    x_start = diffusion.x_start(output, x_t, index)
    close(x_start, field(GOLDEN["steps"][key]["x_start_pred"]))
    if sampler == "DDIM":
        found = ddim_step(diffusion.schedule, x_start, x_t, index)
    else:
        log_variance = diffusion.log_variance(output, index)
        found = ddpm_step(diffusion.schedule, x_start, x_t, index, given("noise2"), log_variance)
        if variance == "fixed_small":
            close(ddpm_step(diffusion.schedule, x_start, x_t, index, given("noise2")), found)
    close(found, field(GOLDEN["steps"][key]["x_prev"]))


def test_a_stochastic_ddim_step_is_a_number_where_the_reference_has_none():
    (broken,) = (value for key, value in GOLDEN["steps"].items() if "BUG" in key)
    assert np.isnan(np.array(broken, dtype=float)).all()
    x_start, x_t = logits_to_x(given("model_out")), field(GOLDEN["x_t_used_below"])
    found = ddim_step(process().schedule, x_start, x_t, torch.tensor([2, 2]), given("noise2"), eta=1.0)
    # with eta = 1 DDIM is DDPM (Song et al. 2021, section 4.1)
    close(found, field(GOLDEN["steps"]["DDPM_x_start_fixed_small_t2"]["x_prev"]))


def test_posterior_mean_noise_and_losses_of_two_levels():
    wanted, diffusion = GOLDEN["other"], process()
    x_start, x_t = mask_to_x(given("mask")), field(GOLDEN["x_t_used_below"])
    output, index = given("model_out"), torch.tensor(wanted["t_index"])
    schedule = diffusion.schedule
    close(q_posterior_mean(schedule, x_start, x_t, index), field(wanted["posterior_mean"]))
    close(predict_noise(schedule, x_start, x_t, index), field(wanted["noise_from_xstart"]))
    close(predict_x_start(schedule, given("noise"), x_t, index), field(wanted["xstart_from_noise"]))
    close(noise_mse(diffusion, output, x_t, index, given("noise")), wanted["diffusion_loss"]["mse_loss"])
    bound = variational_bound(diffusion, output, x_start, x_t, index).numpy()
    # at index 0 the reference takes the true mean, so that its likelihood does not depend on the network
    assert bound[1] == pytest.approx(wanted["diffusion_loss"]["vlb_loss"][1], rel=1e-5)
    assert bound[0] != pytest.approx(wanted["diffusion_loss"]["vlb_loss"][0], rel=0.1)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("conditioned", [False, True])
def test_whole_inference(sampler, conditioned):
    diffusion = process(strategy="self_conditioning" if conditioned else "standard")
    flat = np.arange(24).reshape(2, 2, 2, 3)

    def noise(k, _shape):
        return field(1.5 * np.sin(2.3 * flat + 1.1 + (4 - k)))

    run = sample_steps(ToyNetwork(diffusion), diffusion, given("noise"), noise, sampler)
    found = [x_to_logits(x_start) for x_start in run]
    wanted = GOLDEN["trajectory"][f"{sampler.upper()}_selfcond_{conditioned}"]
    for n in range(5):
        close(found[n], field(wanted[n]))
