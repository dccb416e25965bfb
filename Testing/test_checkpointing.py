"""Activation checkpointing: the same gradients from fewer kept tensors, dropout included."""

import pytest
import torch

from DiffSegLib.training.memory import training_memory
from test_networks import a_step, inputs_of, made, settings_of


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("strategy", ["recycling", "supervised"])
@pytest.mark.parametrize("name", ["unet", "cached"])
def test_gradients_are_the_same_bit_for_bit(name, strategy, dropout):
    found = []
    for checkpointing in (False, True):
        sizes = {"diffusion": {"strategy": strategy}, "dropout": dropout, "checkpointing": checkpointing}
        network, settings = made(name, **sizes)
        loss = a_step(network.train(), settings, iteration=3)
        after = torch.rand(1)  # the random numbers behind the step are the same too
        found.append([loss.mean.detach(), after, *(p.grad for p in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def kept_bytes(network, inputs):
    """Of the tensors that autograd keeps for the backward pass, without the weights."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*inputs)
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    return sum(x.untyped_storage().nbytes() for key, x in kept.items() if key not in own)


@pytest.mark.parametrize("name", ["unet", "cached"])
def test_fewer_activations_are_kept(name):
    plain, saving = (made(name, blocks=2, checkpointing=value) for value in (False, True))
    inputs = inputs_of(plain[1], (16, 16, 16))
    kept = [kept_bytes(network.train(), inputs) for network, _ in (plain, saving)]
    assert kept[1] < 0.45 * kept[0]


@pytest.mark.parametrize("name", ["unet", "cached"])
def test_the_estimate_of_memory_knows_it(name):
    sizes = {"channels": [32, 64, 128], "blocks": 2}
    plain, saving = (settings_of(name, **sizes, checkpointing=value).network for value in (False, True))
    assert training_memory(saving, (64, 64, 64), 2, 1, 3) < 0.6 * training_memory(plain, (64, 64, 64), 2, 1, 3)


def test_the_estimate_of_memory_counts_what_the_strategy_shows():
    from dataclasses import replace

    settings = settings_of("unet")
    strategies = [
        replace(settings.diffusion, strategy=name) for name in ("supervised", "standard", "self_conditioning")
    ]
    found = [training_memory(settings.network, (16, 16, 16), 1, 1, 3, diffusion) for diffusion in strategies]
    assert found == sorted(found) and len(set(found)) == 3
    twin = settings_of("dynunet")
    assert training_memory(twin.network, (16, 16, 16), 1, 1, 3, twin.diffusion) > 0
