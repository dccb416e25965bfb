"""The convolution of one small volume in float32: oneDNN's wherever it can be, torch's own answer everywhere."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from DiffSegLib.network.blocks import Conv3d
from DiffSegLib.network.cached import CachedUNet

SMALL = {"channels": (8, 16, 24), "blocks": 1, "heads": 2}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
@pytest.mark.parametrize("size", [(4, 12, 10, 8), (24, 3, 7, 5), (1, 7, 6, 5)])
def test_one_small_volume_takes_the_fast_convolution_and_the_answer_and_gradient_are_the_same(size):
    layer, x = Conv3d(size[0], 6, 3, padding=1), torch.randn(1, *size)
    own = torch.nn.Conv3d(size[0], 6, 3, padding=1)
    own.load_state_dict(layer.state_dict())

    def learnt(module):
        image = x.clone().requires_grad_()
        answer = module(image)
        answer.square().mean().backward()
        return answer.detach(), image.grad, module.weight.grad, module.bias.grad

    with torch.profiler.profile() as seen:
        found = learnt(layer)
        with torch.inference_mode():
            torch.testing.assert_close(layer(x), found[0])
    names = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in names and not [name for name in names if "slow_conv" in name]
    assert all(each.is_contiguous() for each in found)
    for one, other in zip(found, learnt(own), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["weight", "bias", "image", ""])
@pytest.mark.parametrize("padding", [1, "same", (1, 0, 1)])
def test_the_fast_convolution_has_a_gradient_however_it_is_padded_and_whatever_is_frozen(padding, frozen):
    layer, own = (kind(3, 4, 3, padding=padding) for kind in (Conv3d, torch.nn.Conv3d))
    own.load_state_dict(layer.state_dict())
    x, found = torch.randn(1, 3, 6, 5, 4), []
    for module in (layer, own):
        image = x.clone().requires_grad_(frozen != "image")
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(frozen != name)
        module(image).square().mean().backward()
        found.append([each.grad for each in (image, module.weight, module.bias)])
    assert [each is None for each in found[0]] == [name == frozen for name in ("image", "weight", "bias")]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_on_one_volume_in_float32_takes_no_slow_convolution(checkpointing):
    shape = {"channels": (8, 16), "strides": ((2, 2, 2),), "blocks": 1, "heads": 2, "mask_channels": 2}
    network = CachedUNet(3, 1, 2, checkpointing=checkpointing, **shape)
    with torch.profiler.profile(record_shapes=True) as seen:
        shape = (12, 12, 12)
        network(torch.randn(1, 1, *shape), torch.rand(1, 2, *shape), torch.ones(1)).square().mean().backward()
    slow = [event for event in seen.key_averages(group_by_input_shape=True) if "slow_conv" in event.key]
    kernels = {tuple(event.input_shapes[1][2:]) for event in slow}
    assert kernels <= {(1, 1, 1), (2, 2, 2)}, "which read each voxel once, where oneDNN gains nothing"
    assert all(parameter.grad is not None for parameter in network.image.stem.parameters())


@pytest.mark.parametrize(
    ("kind", "size", "taken"),
    [
        (torch.float32, (1, 3, 6, 5, 4), True),
        (torch.float64, (1, 3, 6, 5, 4), False),
        (torch.float32, (2, 3, 6, 5, 4), False),
        (torch.float32, (1, 3, 4, 5, 5), False),
        (torch.float32, (1, 512, 8, 8, 8), False),
    ],
)
def test_which_convolutions_go_to_onednn(kind, size, taken):
    """Not what it cannot compute, what torch gives it anyway, and what is too small to be turned."""
    assert Conv3d(size[1], 2, 3, padding=1)._is_slow(torch.empty(size, dtype=kind)) == taken


def exported(layer, x):
    return torch.export.export(layer, (x,)).module()(x)


def compiled(layer, x):
    return torch.compile(layer, backend="aot_eager")(x)


def without_onednn(layer, x):
    with torch.backends.mkldnn.flags(enabled=False):
        return layer(x)


def fake(layer, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return torch.zeros_like(layer(mode.from_tensor(x)), device="cpu").shape


def traced(layer, x):
    graph = torch.jit.trace(layer, x)
    assert "to_mkldnn" not in str(graph.inlined_graph)
    return graph(x)


def counted(layer, x):
    with FlopCounterMode(display=False) as counter:
        found = layer(x)
    return found, counter.get_total_flops()


def mapped(layer, x):
    return torch.vmap(layer)(x[None])


WAYS = [exported, compiled, without_onednn, fake, traced, counted, mapped]


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:TF32")
@pytest.mark.parametrize("guard", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("way", WAYS)
def test_the_fast_convolution_stands_wherever_torch_s_own_does(way, guard):
    layer, own, x = Conv3d(3, 4, 3, padding=1), torch.nn.Conv3d(3, 4, 3, padding=1), torch.randn(1, 3, 6, 5, 4)
    own.load_state_dict(layer.state_dict())
    with guard():
        torch.testing.assert_close(way(layer, x), way(own, x))


@pytest.mark.parametrize("padding_mode", ["circular", "reflect", "replicate", "zeros"])
@pytest.mark.parametrize("size", [(1, 3, 6, 5, 4), (3, 6, 5, 4), (1, 6, 5, 4)])
def test_the_fast_convolution_pads_and_takes_a_single_image_as_torch_s_own(padding_mode, size):
    layer, own = (kind(size[-4], 4, 3, padding=1, padding_mode=padding_mode) for kind in (Conv3d, torch.nn.Conv3d))
    own.load_state_dict(layer.state_dict())
    x = torch.randn(size)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), own(x))
