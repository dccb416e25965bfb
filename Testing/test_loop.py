"""The loop does what its settings say: rate, clipping, averaged weights, and the best of the validations."""

from types import SimpleNamespace

import pytest
import torch

from DiffSegLib.network.build import build
from DiffSegLib.training import checkpoint, loop
from DiffSegLib.training.ema import update_ema
from DiffSegLib.training.validation import validate
from small_training import blobs, settings_of

QUICK = ("training.iterations=4", "training.validations=1", "training.warmup=0")


def fresh(settings):
    torch.manual_seed(0)
    return build(settings.network, 1, 3, settings.diffusion)


def trained(run, *changes):
    """The network after its last step, and what the loop gives back."""
    settings, cases = settings_of(*QUICK, *changes), blobs(5)
    network = fresh(settings)
    return network, loop.train(network, 3, cases[:4], cases[4:], settings, run, device="cpu")


def moved(run, *changes):
    """How far the furthest weight went from where it began, without decay of weights."""
    network, _ = trained(run, "training.weight_decay=0", "training.ema=0", *changes)
    start = fresh(settings_of(*QUICK)).state_dict()
    return max(float((value - start[key]).abs().max()) for key, value in network.state_dict().items())


def test_the_learning_rate_of_the_settings_is_the_one_that_steps(tmp_path):
    rates = ("training.learning_rate={0}", "training.learning_rate_start={0}", "training.learning_rate_end={0}")
    small = moved(tmp_path / "a", *(text.format(1e-8) for text in rates))
    large = moved(tmp_path / "b", *(text.format(1e-3) for text in rates))
    assert small < 1e-6
    assert 1e-3 < large < 1e-2


def test_gradients_are_clipped(tmp_path):
    # Adam forgets the size of its gradients unless they are lost in its epsilon of 1e-8
    assert moved(tmp_path / "a", "training.clip=1e-13") < 0.01 * moved(tmp_path / "b", "training.clip=1.0")


def test_without_averaging_the_weights_are_those_of_the_last_step(tmp_path):
    network, found = trained(tmp_path, "training.ema=0")
    for key, value in network.state_dict().items():
        assert torch.equal(found.weights[key], value), key


def test_averaged_weights_lag_behind(tmp_path):
    network, found = trained(tmp_path, "training.ema=0.99")
    last, start = network.state_dict(), fresh(settings_of(*QUICK)).state_dict()
    key = next(key for key in last if key.endswith("conv1.weight"))
    behind = (found.weights[key] - start[key]).norm() / (last[key] - start[key]).norm()
    assert 0.1 < float(behind) < 0.99


def test_the_average_of_known_weights():
    layer = torch.nn.Linear(1, 1, bias=False)
    ema = {"weight": torch.zeros(1, 1)}
    expected = 0.0
    for iteration, weight in enumerate((1.0, 3.0, -2.0)):
        layer.weight.data.fill_(weight)
        update_ema(ema, layer, 0.15, iteration)
        decay = min(0.15, (1 + iteration) / (10 + iteration))
        expected = decay * expected + (1 - decay) * weight
    assert float(ema["weight"]) == pytest.approx(expected)


def test_what_comes_back_are_the_averaged_weights_of_the_best_validation(tmp_path, monkeypatch):
    seen = []

    def scripted(state, *_arguments, **_options):
        seen.append({key: value.clone() for key, value in state.ema.items()})
        return {"dice": (0.2, 0.9, 0.4, 0.1)[len(seen) - 1], "dice_first_step": 0.0, "dice_by_class": [0.0, 0.0]}

    monkeypatch.setattr(loop, "validate", scripted)
    _, found = trained(tmp_path, "training.iterations=8", "training.validations=4", "training.ema=0.5")
    assert (found.dice, found.iteration) == (0.9, 4)
    for key, value in found.weights.items():
        assert torch.equal(value, seen[1][key]), key
    assert any(not torch.equal(seen[1][key], seen[3][key]) for key in seen[1])


def test_validation_judges_the_averaged_weights_and_gives_the_network_back(tmp_path):
    settings = settings_of()
    network = fresh(settings)
    state = checkpoint.State(
        network,
        torch.optim.AdamW(network.parameters()),
        torch.amp.GradScaler("cpu", enabled=False),
        loop.TimeSampler(settings.diffusion, 5),
    )
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([100.0, 0.0, 0.0]))  # the network itself finds nothing
        state.ema["head.bias"].copy_(torch.tensor([0.0, 100.0, 0.0]))  # its average finds class 1 everywhere
    own = {key: value.clone() for key, value in network.state_dict().items()}
    case = blobs(1)
    score = validate(state, case, 3, settings, torch.device("cpu"), torch.float32)
    size = int((case[0].label == 1).sum())
    assert score["dice_by_class"] == [pytest.approx(2 * size / (size + case[0].label.numel()), abs=1e-4), 0.0]
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, own[key]), key


def test_every_validation_that_was_asked_for_takes_place(tmp_path, monkeypatch):
    seen = []
    plain = loop.validate
    monkeypatch.setattr(
        loop, "validate", lambda state, *a, **k: (seen.append(state.progress.iteration), plain(state, *a, **k))[1]
    )
    trained(tmp_path, "training.iterations=29", "training.validations=29", "training.batch=1")
    assert seen == list(range(1, 30))


@pytest.mark.parametrize(("cost", "validated"), [(0.1, 10), (12.0, 2), (70.0, 1)])
def test_validations_leave_most_of_a_budget_in_minutes_to_the_training(tmp_path, monkeypatch, cost, validated):
    clock, steps, seen, plain = [0.0], [], [], loop.training_loss

    def takes(seconds, what, answer):
        clock[0] += seconds
        what.append(clock[0])
        return answer

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(loop, "training_loss", lambda *a, **k: takes(2.0, steps, plain(*a, **k)))
    score = {"dice": 0.5, "dice_first_step": 0.5, "dice_by_class": [0.5, 0.5]}
    monkeypatch.setattr(loop, "validate", lambda *_, **__: takes(cost, seen, score))
    trained(tmp_path, "training.minutes=1", "training.validations=10", "training.batch=1")
    assert len(seen) == validated and (len(steps) >= 18 or cost > 60)


def test_a_gradient_that_is_no_number_moves_no_weight(tmp_path):
    settings, cases = settings_of(*QUICK), blobs(5)
    network, backward, heard = fresh(settings), iter(range(100)), []
    next(network.parameters()).register_hook(lambda g: g * float("nan") if next(backward) == 1 else g)
    loop.train(network, 3, cases[:4], cases[4:], settings, tmp_path, device="cpu", listener=heard.append)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert any("gradient was not finite" in str(event.get("text")) for event in heard)


def test_weights_decay_as_they_are_told_to(tmp_path):
    still = ("training.learning_rate=1e-2", "training.learning_rate_end=1e-2", "training.learning_rate_start=1e-2")
    plain, _ = trained(tmp_path / "a", *still, "training.weight_decay=0")
    shrunk, _ = trained(tmp_path / "b", *still, "training.weight_decay=10")
    size = [sum(float(p.detach().square().sum()) for p in each.parameters()) for each in (plain, shrunk)]
    assert size[1] < 0.8 * size[0]
