"""The network: shapes for any size, what each input does, and memory layout."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bfloat16 import with_bfloat16
from DiffSegLib import config
from DiffSegLib.config import DiffusionConfig
from DiffSegLib.network import blocks, precision
from DiffSegLib.network.blocks import GELU, Conv3d, InstanceNorm, TimeEmbedding, Transformer, channels_last
from DiffSegLib.network.build import build
from DiffSegLib.network.cached import CachedUNet
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


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_channels_last_is_the_same_in_the_same_layout(approximate):
    x = torch.randn(2, 4, 3, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    found = GELU(approximate)(x)
    assert channels_last(found)
    torch.testing.assert_close(found, torch.nn.functional.gelu(x, approximate=approximate))


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


def test_nothing_behind_the_transformer_is_channels_last():
    layer = Transformer(8, 2, 4)
    assert layer(torch.randn(2, 8, 3, 4, 5), torch.nn.GELU()).is_contiguous()
