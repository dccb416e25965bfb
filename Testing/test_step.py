"""The loss of one training step: what the weights multiply, and what each term calls right."""

import torch

from conftest import TINY
from DiffSegLib import config
from DiffSegLib.config import DiffusionConfig
from DiffSegLib.diffusion.gaussian import mask_to_x, predict_noise, q_sample
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.diffusion.strategies.contract import Answer
from DiffSegLib.network.build import build
from DiffSegLib.training.losses import as_mask
from DiffSegLib.training.step import SeededDraws, losses_of, training_loss
from DiffSegLib.training.time_sampling import TimeSampler

LABEL = torch.randint(3, (2, 8, 8, 8), generator=torch.Generator().manual_seed(0))


def test_each_sample_s_loss_is_weighted_by_its_draw_and_remembered_unweighted():
    settings = config.override(config.from_json(TINY), ["diffusion.time_sampling=loss_aware"])
    torch.manual_seed(0)
    network, process = build(settings.network, 1, 3), make_process(settings.diffusion)
    history = {"counts": [20.0] * 5, "squares": [0.01, 0.04, 0.09, 0.16, 4.0]}
    image = torch.randn(2, 1, 8, 8, 8)

    def step(iteration):
        times = TimeSampler(settings.diffusion, 5)
        times.restore(history)
        args = (network, image, LABEL, 3, process, settings, times, [2 * iteration, 2 * iteration + 1], torch.float32)
        return training_loss(*args), times

    for iteration in range(3):
        loss, times = step(iteration)
        chance = times.probabilities()[loss.index.numpy()]
        wanted = (loss.per_sample / (5 * torch.from_numpy(chance))).mean()
        torch.testing.assert_close(loss.mean.detach().double(), wanted)
        again, _ = step(iteration)
        assert torch.equal(again.mean, loss.mean) and torch.equal(again.index, loss.index)


def test_the_noise_loss_asks_for_the_truth_even_where_x_t_was_made_from_a_guess():
    settings = config.override(
        config.from_json(TINY),
        ["diffusion.parametrisation=epsilon", "loss.dice=0", "loss.cross_entropy=0", "loss.mse=2"],
    )
    process = make_process(DiffusionConfig(parametrisation="epsilon"))
    truth = mask_to_x(as_mask(LABEL, torch.empty(1, 3, 1, 1, 1)))
    index, noise = torch.tensor([1, 3]), torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    x_t = q_sample(process.schedule, -truth, index, noise)  # from a guess that is all wrong
    right = predict_noise(process.schedule, truth, x_t, index)
    assert float(losses_of(Answer(right, x_t), truth, LABEL, process, index, settings).max()) < 1e-9
    off = losses_of(Answer(right + 0.5, x_t), truth, LABEL, process, index, settings)
    torch.testing.assert_close(off, torch.full((2,), 2 * 0.25))
    repeated = losses_of(Answer(noise, x_t), truth, LABEL, process, index, settings)
    assert float(repeated.min()) > 0.01


def test_the_bound_enters_with_its_weight():
    settings = config.override(config.from_json(TINY), ["loss.dice=0", "loss.cross_entropy=0", "loss.vlb=3"])
    process, truth = make_process(settings.diffusion), mask_to_x(as_mask(LABEL, torch.empty(1, 3, 1, 1, 1)))
    index = torch.tensor([1, 3])
    x_t = q_sample(process.schedule, truth, index, torch.zeros_like(truth))
    sure = losses_of(Answer(50.0 * truth, x_t), truth, LABEL, process, index, settings)
    unsure = losses_of(Answer(0.0 * truth, x_t), truth, LABEL, process, index, settings)
    assert float(sure.max()) < 1e-6 and (unsure > 0.01).all()
    mean_gap = process.schedule.posterior_mean_coef_x_start[3] * (truth[1] - (2 / 3 - 1))
    wanted = 3 * (mean_gap**2).mean() / (2 * process.schedule.posterior_variance[3]) / torch.tensor(2.0).log()
    torch.testing.assert_close(unsure[1], wanted.float())


def test_each_sample_of_each_step_has_noise_and_a_level_of_its_own():
    like = torch.zeros(1, 3, 4, 4)
    draws = SeededDraws(like.expand(3, -1, -1, -1), 5, [7, 8, 9])
    noise, numbers = draws.normal(), draws.uniform()
    assert len({tuple(each.flatten().tolist()) for each in noise}) == 3 and len(set(numbers.tolist())) == 3
    again = SeededDraws(like, 5, [8])
    assert torch.equal(again.normal()[0], noise[1]) and again.uniform() == numbers[1]
