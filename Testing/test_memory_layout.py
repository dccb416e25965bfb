"""How the maps of a network lie in memory: as they compute fastest, with the same answer and gradient."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bfloat16 import with_bfloat16
from DiffSegLib.network import blocks, precision
from DiffSegLib.network.blocks import GELU, Conv3d, InstanceNorm, Transformer, channels_last
from DiffSegLib.network.cached import CachedUNet
from DiffSegLib.network.unet import UNet

SMALL = {"channels": (8, 16, 24), "blocks": 1, "heads": 2}


def test_features_stay_contiguous_all_the_way():
    """A channels-last tensor in the decoder would make each norm's backward pass a hundred times slower."""
    network = UNet(3, 1, 2, strides=((2, 2, 2), (2, 2, 2)), mask_channels=2, **SMALL)
    layouts = []
    for module in network.modules():
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(lambda _m, args, _o: layouts.append(args[0].is_contiguous()))
    network(torch.randn(1, 1, 8, 8, 8), torch.rand(1, 2, 8, 8, 8), torch.ones(1))
    assert len(layouts) > 10 and all(layouts)


class NormsBackward(TorchDispatchMode):
    """Whether the gradient of each batch norm lies in memory as its input does."""

    def __init__(self):
        super().__init__()
        self.alike = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.native_batch_norm_backward.default:
            self.alike.append(channels_last(args[0]) == channels_last(args[1]))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def two_threads():
    """With a single one torch's convolutions of 1 x 1 x 1 voxels answer planar whatever they are given."""
    count = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(count)


@pytest.mark.parametrize("kind", [UNet, CachedUNet])
def test_large_maps_are_channels_last_and_the_answer_and_gradient_are_the_same(monkeypatch, request, kind):
    """On the way down, on the way up, and not what the light denoiser is shown."""
    if kind is CachedUNet:  # whose guides come of convolutions of one voxel
        request.getfixturevalue("two_threads")
    network = kind(3, 1, 2, channels=(32, 64), strides=((2, 2, 2),), blocks=1, heads=2, mask_channels=2)
    image = network.image if kind is CachedUNet else network
    inputs = torch.randn(2, 1, 9, 8, 8), torch.rand(2, 2, 9, 8, 8), torch.ones(2)
    layouts, norms = {}, NormsBackward()

    def watch(name, module):
        module.register_forward_pre_hook(lambda _m, args: layouts.update({name: channels_last(args[0])}))

    for level in (0, 1):
        watch(f"down {level}", image.encoder[level][0])
        watch(f"up {level}", image.decoder[level][0])
        if kind is CachedUNet:
            watch(f"guide {level}", network.denoiser.guides[level][1])

    def both(large):
        monkeypatch.setattr(blocks, "LARGE", large)
        network.zero_grad()
        with torch.no_grad():
            answer = network(*inputs)
        trained = network(*inputs)
        with norms:
            trained.square().mean().backward()
        assert answer.is_contiguous() and trained.is_contiguous()
        finest = {name for name in layouts if name.endswith("0") and "guide" not in name}
        assert {name for name, last in layouts.items() if last} == (finest if large < 10**9 else set()), layouts
        return answer, trained, torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

    planar, turned = both(10**9), both(9 * 8 * 8)
    assert len(layouts) == (6 if kind is CachedUNet else 4)
    assert len(norms.alike) > 5 and all(norms.alike), "twenty times as long otherwise"
    for one, other in zip(planar, turned, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("device", "dtype", "channels", "edge", "last"),
    [
        ("cpu", torch.float32, 16, 32, True),
        ("cpu", torch.float32, 24, 32, False),
        ("cpu", torch.float32, 8, 32, False),
        ("cpu", torch.bfloat16, 32, 32, True),
        ("cpu", torch.bfloat16, 16, 32, False),
        ("cpu", torch.bfloat16, 48, 32, False),
        ("cpu", torch.float32, 16, 31, False),
        ("meta", torch.float32, 32, 32, False),
    ],
)
def test_which_maps_are_channels_last(monkeypatch, device, dtype, channels, edge, last):
    """Large ones, of 16 channels or multiples in float32, of 32 in bfloat16, on a CPU; any other is made planar."""
    monkeypatch.setattr(blocks, "has_tiles", lambda: False)
    planar = torch.empty(1, channels, edge, 32, 32, dtype=dtype, device=device)
    for x in (planar, planar.contiguous(memory_format=torch.channels_last_3d)):
        found = blocks.arranged(x)
        assert (channels_last(found), found.is_contiguous()) == (last, not last)
        few = blocks.arranged(x[:, :4], channels)
        assert few.shape[1] == 4 and (channels_last(few), few.is_contiguous()) == (last, not last)


@pytest.mark.parametrize(("channels", "last"), [(16, False), pytest.param(32, True, marks=with_bfloat16)])
def test_the_first_convolution_lies_as_the_level_behind_it_does(monkeypatch, channels, last):
    """In bfloat16, though its input is float32: multiples of 32 channels."""
    network = UNet(3, 1, 2, channels=(channels, 64), strides=((2, 2, 2),), blocks=1, heads=2, mask_channels=2)
    monkeypatch.setattr(blocks, "LARGE", 9 * 8 * 8)
    monkeypatch.setattr(blocks, "has_tiles", lambda: False)
    seen = []
    network.stem_norm.register_forward_hook(lambda _m, args, _o: seen.append(channels_last(args[0])))
    network.encoder[0][0].register_forward_pre_hook(lambda _m, args: seen.append(channels_last(args[0])))
    with precision.autocast(torch.device("cpu"), torch.bfloat16):
        network(torch.randn(2, 1, 9, 8, 8), torch.rand(2, 2, 9, 8, 8), torch.ones(2))
    assert seen == [last, last]


def layouts_of(network):
    """Filled in each pass: whether the input of each residual block is channels-last."""
    found = []
    for module in network.modules():
        if isinstance(module, blocks.ResidualBlock):
            module.register_forward_pre_hook(lambda _m, args: found.append(channels_last(args[0])))
    return found


@pytest.mark.parametrize("tiles", [False, pytest.param(True, marks=with_bfloat16)])
@pytest.mark.parametrize("kind", [UNet, CachedUNet])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_map_is_channels_last_where_tiles_multiply_and_the_answer_is_the_same(monkeypatch, kind, batch, tiles):
    """Small maps, so none elsewhere; in bfloat16 alone."""
    network = kind(3, 1, 2, channels=(16, 24), strides=((2, 2, 2),), blocks=1, heads=2, mask_channels=2)
    inputs = torch.randn(batch, 1, 9, 8, 8), torch.rand(batch, 2, 9, 8, 8), torch.rand(batch)
    with torch.inference_mode():
        exact = network(*inputs)
    layouts, dtype = layouts_of(network), torch.bfloat16
    monkeypatch.setattr(blocks, "has_tiles", lambda: tiles)
    monkeypatch.setattr(precision, "has_tiles", lambda: tiles)
    faster = precision.ready(network, torch.device("cpu"), dtype)
    last = {module.weight.is_contiguous() for module in faster.modules() if type(module) is Conv3d}
    assert (False in last) == tiles, "no weight is arranged anew in every pass"
    with torch.inference_mode(), precision.autocast(torch.device("cpu"), dtype):
        found = faster(*inputs)
    assert len(layouts) > 6 and set(layouts) == {tiles}
    assert found.is_contiguous()
    assert float((found.float() - exact).abs().max()) < 0.05 * float(exact.abs().max())


@with_bfloat16
@pytest.mark.parametrize("kind", [UNet, CachedUNet])
def test_training_where_tiles_multiply_is_channels_last_and_has_the_same_gradient(monkeypatch, kind):
    network = kind(3, 1, 2, channels=(16, 24), strides=((2, 2, 2),), blocks=1, heads=2, mask_channels=2)
    inputs = torch.randn(2, 1, 9, 8, 8), torch.rand(2, 2, 9, 8, 8), torch.rand(2)
    layouts = layouts_of(network)

    def gradient(tiles):
        monkeypatch.setattr(blocks, "has_tiles", lambda: tiles)
        layouts.clear()
        network.zero_grad()
        with precision.autocast(torch.device("cpu"), torch.bfloat16):
            network(*inputs).float().square().mean().backward()
        assert len(layouts) > 6 and set(layouts) == {tiles}
        return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

    planar, turned = gradient(False), gradient(True)
    assert float((planar - turned).norm()) < 0.05 * float(planar.norm())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("voxels", [5, 11])  # along an edge: few, and not
def test_the_norm_of_channels_last_maps_is_the_same_in_the_same_layout(batch, voxels):
    layer, x = InstanceNorm(3, 3, eps=1e-6), 5 + 3 * torch.randn(batch, 3, voxels, voxels, voxels)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    turned = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        torch.testing.assert_close(layer(turned), layer(x), atol=1e-4, rtol=1e-4)
        assert channels_last(layer(turned))
        shift = torch.randn(batch, 3)
        expected = layer(x) + shift[:, :, None, None, None]
        for laid in (x, turned):
            torch.testing.assert_close(layer(laid, shift), expected, atol=1e-4, rtol=1e-4)
    far = (1000 + turned).bfloat16().requires_grad_()  # a mean that bfloat16 does not hold exactly
    exact = torch.nn.functional.instance_norm(far.detach().float(), None, None, layer.weight, layer.bias, eps=1e-6)
    found = layer(far)
    assert channels_last(found)
    torch.testing.assert_close(found.float(), exact, atol=0.05, rtol=0.02)


def test_the_norm_of_a_single_voxel_is_the_offset():
    layer = InstanceNorm(3, 3, eps=1e-6)
    torch.nn.init.normal_(layer.bias)
    torch.testing.assert_close(
        layer(torch.randn(2, 3, 1, 1, 1)), layer.bias.reshape(1, 3, 1, 1, 1).expand(2, 3, 1, 1, 1), atol=1e-3, rtol=0
    )


def test_what_is_added_to_each_channel_is_the_same_in_both_layouts():
    shift, x = torch.randn(2, 3), torch.randn(2, 3, 4, 5, 6)
    turned = x.contiguous(memory_format=torch.channels_last_3d)
    found = turned + blocks.along(shift, turned)
    assert channels_last(found)
    torch.testing.assert_close(found, x + blocks.along(shift, x))
    torch.testing.assert_close(found, x + shift[:, :, None, None, None])


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_channels_last_is_the_same_in_the_same_layout(approximate):
    x = torch.randn(2, 4, 3, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    found = GELU(approximate)(x)
    assert channels_last(found)
    torch.testing.assert_close(found, torch.nn.functional.gelu(x, approximate=approximate))


def test_nothing_behind_the_transformer_is_channels_last():
    layer = Transformer(8, 2, 4)
    assert layer(torch.randn(2, 8, 3, 4, 5), torch.nn.GELU()).is_contiguous()
