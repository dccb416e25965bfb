"""Validation judges the averaged weights by the same steps, sampler and seed that a prediction has by default."""

import torch

from DiffSegLib.inference.sampling import Sampling
from DiffSegLib.jobs import SegmentOptions
from DiffSegLib.network.build import build
from DiffSegLib.training.checkpoint import State
from DiffSegLib.training.validation import class_dice, validate
from small_training import blobs, settings_of

CPU = torch.device("cpu")


def test_a_validation_is_the_mean_dice_of_predictions_with_seed_0():
    settings = settings_of("diffusion.timesteps=20")
    torch.manual_seed(0)
    network = build(settings.network, 1, 3, settings.diffusion)
    averaged = {key: value + 0.3 * torch.randn_like(value) for key, value in network.state_dict().items()}
    own = {key: value.clone() for key, value in network.state_dict().items()}
    state = State.__new__(State)
    state.network, state.ema = network, averaged
    cases = blobs(3)
    found = validate(state, cases, 3, settings, CPU, torch.float32)
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items()), "its own weights are back"
    network.load_state_dict(averaged)
    options, wanted = SegmentOptions(), {}
    for seed in (options.seed, options.seed + 1):
        scores = []
        for case in cases:
            arguments = (network.eval(), 3, settings.data.patch, settings.network.factors, settings.diffusion)
            how = Sampling(*arguments, steps=options.steps, sampler=options.sampler, seed=seed)
            scores.append([class_dice(probability, case.label) for probability in how.volumes(case.image)])
        wanted[seed] = torch.tensor(scores).nanmean((0, 2))
    assert abs(found["dice"] - float(wanted[0][-1])) < 1e-6
    assert abs(found["dice_first_step"] - float(wanted[0][0])) < 1e-6
    assert abs(found["dice_first_step"] - float(wanted[1][0])) > 1e-5, "another seed is another number"
