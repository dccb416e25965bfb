"""Training steps, losses, time sampling and rates against the reference's numbers."""

import numpy as np
import pytest
import torch

from DiffSegLib import config
from DiffSegLib.config import DiffusionConfig, LossConfig
from DiffSegLib.data.intensity import gamma
from DiffSegLib.diffusion.gaussian import mask_to_x
from DiffSegLib.diffusion.process import make_process
from DiffSegLib.diffusion.strategies import STRATEGIES
from DiffSegLib.training import losses
from DiffSegLib.training.rate import learning_rate
from DiffSegLib.training.time_sampling import TimeSampler
from golden import GOLDEN, ToyNetwork, close, field, given

LABEL = torch.tensor(GOLDEN["inputs"]["label"]).long()
# the reference's name of a row -> ours; what it calls vanilla here is standard diffusion
ROWS = {
    "vanilla": {"strategy": "standard"},
    "recycling_max_reverseFalse": {"strategy": "recycling"},
    "recycling_next_reverseFalse": {"strategy": "recycling_next"},
    "recycling_next_reverseTrue": {"strategy": "recycling_next", "reverse_step": True},
    "selfcond_same_prob1": {"strategy": "self_conditioning", "self_conditioning_probability": 1.0},
    "selfcond_same_prob0": {"strategy": "self_conditioning", "self_conditioning_probability": 0.0},
    "selfcond_next_prob1": {"strategy": "self_conditioning_next", "self_conditioning_probability": 1.0},
}


class TwoNoises:
    """The golden noises, in order."""

    def __init__(self):
        self.noises = [given("noise2"), given("noise")]

    def normal(self):
        return self.noises.pop()

    def uniform(self):
        return torch.full((2,), 0.5)


def step(steps, row, **changes):
    """Index, output, per-sample loss and the gradient of the toy network's parameter."""
    settings = DiffusionConfig(time="index", train_steps=steps, **{**ROWS[row], **changes})
    process = make_process(settings)
    index = torch.tensor(GOLDEN["train_step"][f"T{steps}_{row}"]["t_index"])
    network = ToyNetwork(process)
    answer = STRATEGIES[settings.strategy](network.predict, mask_to_x(given("mask")), process, index, TwoNoises())
    loss = losses.total_loss(answer.output, LABEL, LossConfig(cross_entropy=0.0, focal=1.0))
    loss.mean().backward()
    return answer.output, loss, network.w.grad


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("steps", [5, 1001])
def test_one_training_step_of_each_strategy(steps, row):
    wanted = GOLDEN["train_step"][f"T{steps}_{row}"]
    compat = {"self_conditioning_input": "reference"} if row == "selfcond_next_prob1" else {}
    output, loss, gradient = step(steps, row, **compat)
    close(output, field(wanted["logits"]))
    close(loss, wanted["loss_batch"])
    close(loss.mean(), wanted["loss"])
    close(gradient, wanted["grad_w"])


def test_every_row_of_the_reference_is_checked():
    assert {key.split("_", 1)[1] for key in GOLDEN["train_step"] if key != "note"} == set(ROWS)


def test_our_self_conditioning_on_the_step_before_shows_x_t_and_not_x_of_the_step_before():
    output, *_ = step(5, "selfcond_next_prob1")
    wanted = field(GOLDEN["train_step"]["T5_selfcond_next_prob1"]["logits"])
    assert float((output.detach() - wanted).abs().max()) > 0.01


def test_losses():
    wanted, logits, truth = GOLDEN["loss"], given("model_out"), given("mask")
    for key, probability in (("batch_class", torch.softmax(logits, 1)), ("sigmoid", torch.sigmoid(logits))):
        found, present = losses.dice_by_class(probability, truth)
        close(torch.where(present, found, torch.nan), np.array(wanted[f"dice_loss_{key}"], dtype=float))
    close(losses.cross_entropy(logits, LABEL), wanted["cross_entropy"])
    close(losses.focal_loss(logits, LABEL), wanted["focal_gamma2"])
    for label in (LABEL, truth):
        close(losses.cross_entropy(logits, label, exclusive=False), wanted["cross_entropy_sigmoid"])
        close(losses.focal_loss(logits, label, exclusive=False), wanted["focal_sigmoid"])
    for focal in (1, 20):
        total = losses.total_loss(logits, LABEL, LossConfig(cross_entropy=0.0, focal=float(focal)))
        close(total, wanted[f"total_dice1_focal{focal}"])


def golden_times(**changes):
    wanted = GOLDEN["time_sampler"]
    state = {"counts": wanted["loss_count_hist"], "squares": wanted["loss_sq_hist"]}
    times = TimeSampler(DiffusionConfig(strategy="standard", time_sampling="loss_aware", **changes), 5)
    times.restore(state)
    return times


def test_time_sampling_probabilities_and_history():
    wanted, times = GOLDEN["time_sampler"], golden_times()
    close(times.probabilities(), wanted["probs_from_count_warmup10"])
    update = wanted["update"]
    times.update(torch.tensor(update["t_index"]), torch.tensor(update["loss_batch"], dtype=torch.float64))
    close(times.counts, update["new_count"])
    close(times.squares, update["new_sq"])
    times = golden_times()
    times.counts += 10
    close(times.probabilities(), wanted["probs_from_loss_sq"])


def test_the_reference_s_importance_weight_is_reproduced_only_on_demand():
    wanted = np.array(GOLDEN["time_sampler"]["probs_from_loss_sq"])
    for rule, expected in (("reference", wanted * 5), ("unbiased", 1 / (wanted * 5))):
        times = golden_times(importance_weight=rule)
        times.counts += 10
        index, weight = times.draw(torch.rand(50, generator=torch.Generator().manual_seed(0)))
        close(weight, expected[index.numpy()])


def test_learning_rate():
    settings = config.preset("imgx-head")
    for update, wanted in GOLDEN["lr"].items():
        close(learning_rate(int(update) / settings.training.iterations, settings), wanted)


def test_gamma_of_an_image_that_fills_its_range():
    """Ours keeps the image's own range, the reference expects 0 to 1: with these two values present they agree."""
    image = given("image")[:, 0].flatten()
    full = torch.cat([image, torch.tensor([0.0, 1.0])]).reshape(1, 1, -1)
    close(gamma(full, 1.3)[0, 0, :-2], field(GOLDEN["intensity"]["gamma_1p3"]).flatten())
