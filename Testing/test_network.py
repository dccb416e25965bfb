"""The network: shapes for any size, and what each input does."""

import pytest
import torch

from DiffSegLib import config
from DiffSegLib.config import DiffusionConfig
from DiffSegLib.network.blocks import InstanceNorm, TimeEmbedding
from DiffSegLib.network.build import build
from DiffSegLib.network.unet import UNet

SMALL = {"channels": (8, 16, 24), "blocks": 1, "heads": 2}


@pytest.mark.parametrize("shape", [(9, 8, 6), (16, 8, 8), (7, 13, 5)])
@pytest.mark.parametrize("strides", [((2, 2, 2), (2, 2, 2)), ((1, 2, 2), (2, 2, 2))])
def test_logits_have_the_size_of_any_image(shape, strides):
    network = UNet(3, 2, 4, strides=strides, mask_channels=4, **SMALL)
    out = network(torch.randn(2, 2, *shape), torch.rand(2, 4, *shape), torch.tensor([0.2, 1.0]))
    assert out.shape == (2, 4, *shape)


def test_two_dimensions():
    network = UNet(2, 1, 3, strides=((2, 2), (2, 2)), mask_channels=3, **SMALL)
    assert network(torch.randn(1, 1, 11, 10), torch.rand(1, 3, 11, 10), torch.ones(1)).shape == (1, 3, 11, 10)


def test_the_answer_depends_on_image_mask_and_time():
    torch.manual_seed(0)
    network = UNet(3, 1, 2, strides=((2, 2, 2), (2, 2, 2)), mask_channels=2, **SMALL).eval()
    image, mask, t = torch.randn(1, 1, 8, 8, 8), torch.rand(1, 2, 8, 8, 8), torch.tensor([0.5])
    base = network(image, mask, t)
    for other in ((image + 1e-1 * torch.randn_like(image), mask, t), (image, 1 - mask, t), (image, mask, t + 0.25)):
        assert (network(*other) - base).abs().max() > 1e-4


def test_the_supervised_twin_has_neither_mask_nor_time():
    settings = config.from_json({"network": {"channels": [8, 16], "strides": [[2, 2, 2]], "heads": 2}})
    twin, full = (build(settings.network, 1, 3, DiffusionConfig(strategy=name)) for name in ("supervised", "recycling"))
    assert twin(torch.randn(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    added = set(full.state_dict()) - set(twin.state_dict())
    assert added and all(".time." in key for key in added)


def test_every_parameter_learns():
    network = UNet(3, 1, 2, strides=((2, 2, 2), (2, 2, 2)), mask_channels=2, **SMALL)
    out = network(torch.randn(2, 1, 8, 8, 8), torch.rand(2, 2, 8, 8, 8), torch.tensor([0.1, 0.9]))
    (out * torch.randn_like(out)).sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias in front of the softmax of attention scores or of an instance norm has no effect
    assert all(name.endswith(("key.bias",)) or ".time." in name for name in idle), idle


def test_instance_norm_normalises_each_channel_of_each_sample():
    x = 5 + 3 * torch.randn(2, 4, 6, 6, 6)
    y = InstanceNorm(4, 4, eps=1e-6)(x)
    torch.testing.assert_close(y.mean((2, 3, 4)), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((2, 3, 4), correction=0), torch.ones(2, 4), atol=1e-4, rtol=0)
    assert InstanceNorm(4, 4)(x.bfloat16()).dtype == torch.bfloat16


def test_time_embedding_of_known_values():
    embedding = TimeEmbedding(4)(torch.tensor([0.5]))[0]
    arguments = torch.tensor([5000.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(embedding, torch.cat([arguments.cos(), arguments.sin()]).float())


def test_a_network_without_attention_has_no_transformer():
    network = UNet(2, 1, 2, strides=((2, 2), (2, 2)), mask_channels=2, attention=False, **SMALL)
    assert not any("transformer" in name for name in network.state_dict())
    assert network(torch.randn(1, 1, 8, 8), torch.rand(1, 2, 8, 8), torch.ones(1)).shape == (1, 2, 8, 8)
