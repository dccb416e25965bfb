"""The U-Net against the reference's: same weights, same input, same logits, in 2D and 3D with odd sizes.

The fixture holds three networks of mathpluscode/ImgX-DiffSeg at ce57729. To stay small it stores the weights in byte
planes, and those of the 3D networks with 20 of their 23 mantissa bits, which moves their logits by 1e-5; `diff3d_even`
has the weights of `diff3d` but for two kernels. The twin without mask and time, `seg3d`, has a megabyte of weights of
its own: it is compared where DIFFSEG_GOLDEN_UNET names the file that holds all four networks whole.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from DiffSegLib import config
from DiffSegLib.network.build import build

FIXTURE = Path(__file__).parent / "fixtures" / "golden_unet.npz"
WHOLE = os.environ.get("DIFFSEG_GOLDEN_UNET", "")
LEVELS, BLOCKS = 3, 2
FIRST_STRIDE = {"diff3d": [2, 2, 1], "diff3d_even": [2, 2, 2], "seg3d": [2, 2, 1], "diff2d": [2, 2]}
SAME_WEIGHTS = {"diff3d_even": "diff3d"}  # in the fixture, but for those that it holds by name


def flax_parameters(arrays, name):
    """Path -> tensor."""
    found, packed = {}, SAME_WEIGHTS.get(name, name)
    if f"{packed}/weights" in arrays:
        flat, start = np.ascontiguousarray(arrays[f"{packed}/weights"].T).view("<f4").ravel(), 0
        for path, shape in json.loads(str(arrays[f"{packed}/layout"])):
            size = int(np.prod(shape))
            found[path] = torch.from_numpy(flat[start : start + size].reshape(shape))
            start += size
    prefix = f"{name}/param/"
    return found | {k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}


def reference_weights(arrays, name):
    """Flax parameters -> our state dict.

    Kernels are (spatial, in, out) in flax. Its transposed convolution does not flip the kernel, torch's does in effect.
    Its transposed kernels are stored (spatial, in, out) like the others.
    """
    state, parameters = {}, flax_parameters(arrays, name)

    def take(path):
        return parameters.pop(path)

    def convolution(ours, path, transposed=False):
        kernel = take(f"{path}/kernel")
        spatial = tuple(range(kernel.ndim - 2))
        kernel = kernel.flip(spatial).permute(-2, -1, *spatial) if transposed else kernel.permute(-1, -2, *spatial)
        state[f"{ours}.weight"] = kernel.contiguous()

    def norm(ours, path):
        for mine, its in (("weight", "scale"), ("bias", "bias")):
            state[f"{ours}.{mine}"] = take(f"{path}/{its}")

    def dense(ours, path, rows=1):
        """`rows` leading axes of the kernel are inputs."""
        kernel = take(f"{path}/kernel")
        inputs = int(np.prod(kernel.shape[:rows]))
        state[f"{ours}.weight"] = kernel.reshape(inputs, -1).T.contiguous()
        state[f"{ours}.bias"] = take(f"{path}/bias").flatten()

    def block(ours, path):
        timed = f"{path}/ConvResBlockWithTime_0/Dense_0/kernel" in parameters
        inner = f"{path}/ConvResBlock{'With' if timed else 'Without'}Time_0"
        for n in (1, 2):
            convolution(f"{ours}.conv{n}", f"{inner}/Conv_{n - 1}")
            norm(f"{ours}.norm{n}", f"{inner}/InstanceNorm_{n - 1}/LayerNorm_0")
        if timed:
            dense(f"{ours}.time", f"{inner}/Dense_0")

    encoder, bottom, decoder = "DownsampleEncoder_0", "BottomImageEncoderUnet_0", "UpsampleDecoder_0"
    convolution("stem", f"{encoder}/ConvNormAct_0/Conv_0")
    norm("stem_norm", f"{encoder}/ConvNormAct_0/InstanceNorm_0/LayerNorm_0")
    for n in range(LEVELS * BLOCKS):
        block(f"encoder.{n // BLOCKS}.{n % BLOCKS}", f"{encoder}/ConvResBlock_{n}")
    for n in range(LEVELS - 1):
        convolution(f"down.{n}.conv", f"{encoder}/ConvDownSample_{n}/Conv_0")
        norm(f"down.{n}.norm", f"{encoder}/ConvDownSample_{n}/InstanceNorm_0/LayerNorm_0")
        up = LEVELS - 2 - n
        convolution(f"up.{up}.conv", f"{decoder}/ConvUpSample_{n}/ConvTranspose_0", transposed=True)
        norm(f"up.{up}.norm", f"{decoder}/ConvUpSample_{n}/InstanceNorm_0/LayerNorm_0")
    block("bottom1", f"{bottom}/ConvResBlock_0")
    block("bottom2", f"{bottom}/ConvResBlock_1")
    layer = f"{bottom}/TransformerEncoder_0"
    for n in range(3):
        norm(f"transformer.norm{n + 1}", f"{layer}/LayerNorm_{n}")
    for part in ("query", "key", "value", "out"):
        dense(f"transformer.{part}", f"{layer}/MultiHeadDotProductAttention_0/{part}", rows=2 if part == "out" else 1)
    for n in (0, 1):
        dense(f"transformer.mlp{n + 1}", f"{layer}/MLP_0/Dense_{n}")
    for n in range(LEVELS * (BLOCKS + 1)):
        level = LEVELS - 1 - n // (BLOCKS + 1)
        block(f"decoder.{level}.{n % (BLOCKS + 1)}", f"{decoder}/ConvResBlock_{n}")
    convolution("head", f"{decoder}/Conv_0")
    state["head.bias"] = take(f"{decoder}/Conv_0/bias")
    assert not parameters
    return state


def reference_network(arrays, name, time="before_norm"):
    """Our network with the reference's weights, and its inputs, channels first."""
    inputs = [torch.from_numpy(arrays[f"{name}/{k}"]) for k in ("image", "mask", "t") if f"{name}/{k}" in arrays]
    inputs = [each.movedim(-1, 1) if each.ndim > 1 else each for each in inputs]
    network = tiny(name, "recycling" if len(inputs) > 1 else "supervised", time)
    network.load_state_dict(reference_weights(arrays, name))
    return network, inputs


def tiny(name, strategy, time="before_norm"):
    """Our network of the reference's size."""
    dims = len(FIRST_STRIDE[name])
    settings = config.from_json(
        {
            "data": {"patch": [16] * dims},
            "augment": {"flip": [False] * dims},
            "diffusion": {"strategy": strategy},
            "network": {
                "channels": [8, 16, 24],
                "strides": [FIRST_STRIDE[name], [2] * dims],
                "blocks": BLOCKS,
                "heads": 2,
                "activation": "gelu_tanh",
                "time": time,
            },
        }
    )
    return build(settings.network, 1, 3, settings.diffusion).eval()


@pytest.fixture(scope="module")
def arrays():
    with np.load(FIXTURE) as file:
        return dict(file)


def assert_same_logits(arrays, name):
    network, inputs = reference_network(arrays, name)
    assert sum(p.numel() for p in network.parameters()) == int(arrays[f"{name}/n_params"])
    wanted = torch.from_numpy(arrays[f"{name}/out"]).movedim(-1, 1)
    with torch.no_grad():
        found = network(*inputs)
    assert float(wanted.std()) > 2 and float((found - wanted).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["diff2d", "diff3d", "diff3d_even"])
def test_the_reference_s_weights_give_the_reference_s_logits(arrays, name):
    assert_same_logits(arrays, name)


@pytest.mark.skipif(not WHOLE, reason="DIFFSEG_GOLDEN_UNET names no file with all networks")
@pytest.mark.parametrize("name", sorted(FIRST_STRIDE))
def test_the_reference_s_whole_weights_give_its_logits_the_twin_s_too(name):
    with np.load(WHOLE) as file:
        assert_same_logits(dict(file), name)


def test_the_twin_is_the_network_without_mask_and_time(arrays):
    """The same weights where they mean the same, an empty mask, and a time that the reference's order does not see."""
    network, (image, mask, t) = reference_network(arrays, "diff3d")
    twin = tiny("diff3d", "supervised")
    assert sum(p.numel() for p in twin.parameters()) == 318_919  # as the reference's
    shared = {k: v for k, v in network.state_dict().items() if k in twin.state_dict()}
    twin.load_state_dict(shared | {"stem.weight": shared["stem.weight"][:, :1]})
    with torch.no_grad():
        assert float((twin(image) - network(image, torch.zeros_like(mask), t)).abs().max()) < 1e-4


def test_the_reference_s_network_does_not_see_the_time_and_ours_does(arrays):
    network, (image, mask, t) = reference_network(arrays, "diff2d")
    ours, _ = reference_network(arrays, "diff2d", time="after_norm")
    with torch.no_grad():
        same = [network(image, mask, torch.full_like(t, value)) for value in (0.001, 0.3, 1.0)]
        different = [ours(image, mask, torch.full_like(t, value)) for value in (0.3, 1.0)]
    assert max(float((other - same[0]).abs().max()) for other in same[1:]) < 1e-4
    assert float((different[1] - different[0]).abs().max()) > 0.1
