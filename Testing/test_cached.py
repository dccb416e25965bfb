"""The cached network: what it costs, that the image is seen once and trained, and what the denoiser depends on."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bfloat16 import with_bfloat16
from DiffSegLib.config import DiffusionConfig
from DiffSegLib.diffusion.strategies import STRATEGIES
from DiffSegLib.inference import sampling, windows
from DiffSegLib.network import blocks, features
from DiffSegLib.network.blocks import InstanceNorm
from DiffSegLib.network.cached import CachedUNet
from DiffSegLib.network.unet import UNet
from DiffSegLib.presets import PRESETS
from test_networks import a_step, inputs_of, made

HALVED = ((2, 2, 2),) * 3
SIZES = {
    "default": {"channels": (32, 64, 128, 256), "strides": HALVED, "blocks": 2},
    "fast": {key: PRESETS["fast"]["network"][key] for key in ("channels", "blocks")} | {"strides": HALVED},
    "thick slices": {"channels": (32, 64, 128, 256), "strides": ((1, 2, 2), *HALVED[1:]), "blocks": 2},
}


def flops(network, *inputs):
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("size", SIZES)
def test_five_steps_cost_little_more_than_one_supervised_pass(size):
    """At 64^3 and three classes; where every axis is halved, at most a quarter of what five passes of `unet` cost."""
    with torch.device("meta"):  # tensors without data: nothing is computed
        image, mask, t = torch.empty(1, 1, 64, 64, 64), torch.empty(1, 3, 64, 64, 64), torch.empty(1)
        cached, unet = (kind(3, 1, 3, mask_channels=3, **SIZES[size]) for kind in (CachedUNet, UNet))
        once, step = flops(cached.encode, image), flops(cached.denoise, cached.encode(image), mask, t)
        supervised = flops(UNet(3, 1, 3, **SIZES[size]), image)
        assert once > supervised
        assert once + 5 * step <= 1.5 * supervised
        if size != "thick slices":
            assert once + 5 * step <= 5 * flops(unet, image, mask, t) / 4


def test_a_window_s_image_is_encoded_once_and_denoised_at_each_step(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0)
    network, settings = made("cached")
    calls = []
    for name in ("encode", "denoise"):
        plain = getattr(network, name)
        monkeypatch.setattr(network, name, lambda *x, name=name, plain=plain: calls.append(name) or plain(*x))
    image = torch.randn(1, 16, 8, 8)
    for _ in sampling.Sampling(network, 3, (8, 8, 8), (4, 4, 4), settings.diffusion, steps=5).volumes(image):
        pass
    assert (calls.count("encode"), calls.count("denoise")) == (3, 15)  # windows of 8 that overlap by half


class Whole(torch.nn.Module):
    """The same network without its two parts: every pass runs all of it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *inputs):
        return self.network(*inputs)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "supervised"])
def test_sharing_the_image_s_features_changes_neither_loss_nor_gradient(strategy):
    network, settings = made("cached", diffusion={"strategy": strategy})
    found = {}
    for whole in (False, True):
        for iteration in range(2):  # of other times
            loss = a_step(Whole(network) if whole else network, settings, iteration)
        found[whole] = loss.per_sample, {key: p.grad.clone() for key, p in network.named_parameters()}
        network.zero_grad()
    torch.testing.assert_close(found[False][0], found[True][0])
    for key, gradient in found[False][1].items():
        torch.testing.assert_close(gradient, found[True][1][key], atol=1e-5, rtol=1e-4)


def test_passes_without_gradient_share_the_features_of_the_one_with(monkeypatch):
    network, settings = made("cached", diffusion={"strategy": "unrolled"})
    seen = []
    monkeypatch.setattr(
        network, "encode", lambda image, plain=network.encode: seen.append(torch.is_grad_enabled()) or plain(image)
    )
    a_step(network, settings)
    assert seen == [True]


def test_the_answer_is_the_image_s_own_plus_what_mask_and_time_add():
    network, settings = made("cached")
    network.eval()
    image, mask, t = inputs_of(settings, (8, 8, 8))
    base = network(image, mask, t)
    for other in ((image + 0.1, mask.flip(1), t), (image, 1 - mask, t), (image, mask, t / 2), (-image, mask, t)):
        assert (network(*other) - base).abs().max() > 1e-3
    kept = network.encode(image)
    assert torch.equal(network.denoise(kept, mask, t), base)
    torch.nn.init.zeros_(network.denoiser.head.weight)
    torch.nn.init.zeros_(network.denoiser.head.bias)
    assert torch.equal(network(image, mask, t), network.image(image))


def test_the_supervised_one_is_the_image_s_u_net_alone():
    network, _ = made("cached", diffusion={"strategy": "supervised"})
    unet, _ = made("unet", diffusion={"strategy": "supervised"})
    assert network.denoiser is None
    unet.load_state_dict({key.removeprefix("image."): value for key, value in network.state_dict().items()})
    image = torch.randn(1, 1, 8, 9, 7)
    assert torch.equal(network(image), unet(image))


def layouts_of(network):
    found = []
    for module in network.modules():
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(lambda _m, args, out: found.append((args[0], out)))
    return found


def test_features_stay_contiguous_though_the_mask_is_channels_last():
    network, settings = made("cached")
    layouts = layouts_of(network)
    image, mask, t = inputs_of(settings, (8, 8, 8))
    network(image, mask.to(memory_format=torch.channels_last_3d), t)
    assert len(layouts) > 20 and all(a.is_contiguous() and b.is_contiguous() for a, b in layouts)


@pytest.mark.parametrize("tiles", [False, pytest.param(True, marks=with_bfloat16)])
def test_the_recycled_pass_of_a_training_lies_as_its_features_do(monkeypatch, tiles):
    """Whatever layout the mask comes in."""
    monkeypatch.setattr(blocks, "has_tiles", lambda: tiles)
    network, settings = made("cached")
    image, mask, t = inputs_of(settings, (8, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = network.encode(image)
        layouts = layouts_of(network)
        with torch.no_grad():
            network.denoise(features, mask, t)
    assert len(layouts) > 5 and all(blocks.channels_last(a) == tiles for a, _ in layouts if min(a.shape[2:]) > 1)


def test_the_budget_of_waiting_windows_counts_their_features(monkeypatch):
    """Where the masks of all windows would fit, but not their features, the windows go in layers."""
    monkeypatch.setattr(windows, "WINDOW_GROWTH", 1.0)
    image, size = torch.randn(1, 16, 8, 8), (8, 8, 8)
    cached, plain = made("cached")[0], made("unet")[0]
    kept = sum(x.nbytes for x in features.encode(cached, image[None, :, :8]))
    assert kept > 4 * (4 * 3 * 8**3)
    monkeypatch.setattr(sampling, "STATE_BUDGET", 3 * (4 * 3 * 8**3 + kept) - 1)
    orders = {}
    for network in (cached, plain):
        order = orders[network] = []

        def tick(at, order=order):
            order.append((at.step, at.window))

        list(sampling.Sampling(network, 3, size, (4, 4, 4), DiffusionConfig(), steps=2, tick=tick).volumes(image))
    assert [at[:2] for at in orders[plain]] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert [at[:2] for at in orders[cached]] == [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3)]
