"""The U-Net against the reference's: same weights, same input, same logits, in 2D and 3D with odd sizes.

The fixture holds two networks of mathpluscode/ImgX-DiffSeg at ce57729. To stay small it stores the weights in byte
planes, and those of the 3D network with 20 of their 23 mantissa bits, which moves its logits by 1e-5.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from DiffSegLib import config
from DiffSegLib.network.build import build

FIXTURE = Path(__file__).parent / "fixtures" / "golden_unet.npz"
LEVELS, BLOCKS = 3, 2


def reference_weights(arrays, name):
    """Flax parameters -> our state dict.

    Kernels are (spatial, in, out) in flax. Its transposed convolution does not flip the kernel, torch's does in effect.
    Its transposed kernels are stored (spatial, in, out) like the others.
    """
    state = {}
    flat = np.ascontiguousarray(arrays[f"{name}/weights"].T).view("<f4").ravel()
    parameters, start = {}, 0
    for path, shape in json.loads(str(arrays[f"{name}/layout"])):
        size = int(np.prod(shape))
        parameters[path] = torch.from_numpy(flat[start : start + size].reshape(shape))
        start += size

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
        inner = f"{path}/ConvResBlockWithTime_0"
        for n in (1, 2):
            convolution(f"{ours}.conv{n}", f"{inner}/Conv_{n - 1}")
            norm(f"{ours}.norm{n}", f"{inner}/InstanceNorm_{n - 1}/LayerNorm_0")
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
    image = torch.from_numpy(arrays[f"{name}/image"]).movedim(-1, 1)
    dims = image.ndim - 2
    first = {"diff3d": [2, 2, 1], "diff2d": [2, 2]}[name]
    settings = config.from_json(
        {
            "data": {"patch": [16] * dims},
            "augment": {"flip": [False] * dims},
            "network": {
                "channels": [8, 16, 24],
                "strides": [first, [2] * dims],
                "blocks": BLOCKS,
                "heads": 2,
                "activation": "gelu_tanh",
                "time": time,
            },
        }
    )
    network = build(settings.network, 1, 3).eval()
    network.load_state_dict(reference_weights(arrays, name))
    mask, t = torch.from_numpy(arrays[f"{name}/mask"]).movedim(-1, 1), torch.from_numpy(arrays[f"{name}/t"])
    return network, (image, mask, t)


@pytest.fixture(scope="module")
def arrays():
    with np.load(FIXTURE) as file:
        return dict(file)


@pytest.mark.parametrize("name", ["diff2d", "diff3d"])
def test_the_reference_s_weights_give_the_reference_s_logits(arrays, name):
    network, inputs = reference_network(arrays, name)
    assert sum(p.numel() for p in network.parameters()) == int(arrays[f"{name}/n_params"])
    wanted = torch.from_numpy(arrays[f"{name}/out"]).movedim(-1, 1)
    with torch.no_grad():
        found = network(*inputs)
    assert float(wanted.std()) > 2 and float((found - wanted).abs().max()) < 1e-4


def test_the_reference_s_network_does_not_see_the_time_and_ours_does(arrays):
    network, (image, mask, t) = reference_network(arrays, "diff2d")
    ours, _ = reference_network(arrays, "diff2d", time="after_norm")
    with torch.no_grad():
        same = [network(image, mask, torch.full_like(t, value)) for value in (0.001, 0.3, 1.0)]
        different = [ours(image, mask, torch.full_like(t, value)) for value in (0.3, 1.0)]
    assert max(float((other - same[0]).abs().max()) for other in same[1:]) < 1e-4
    assert float((different[1] - different[0]).abs().max()) > 0.1
