"""How much memory a training step takes, found without running it: a forward pass of tensors that have no data."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from DiffSegLib.config import DiffusionConfig, NetworkConfig
from DiffSegLib.diffusion.process import mask_channels
from DiffSegLib.network.build import DIFFUSION, build

GIB = 1 << 30
# weights, gradients, AdamW's two moments, the averaged weights: five float32 a parameter
BYTES_PER_PARAMETER = 20
# what a step needs besides what is kept for the backward pass: the estimate lies above the peak that was measured
# (on a CPU, patch 40 x 56 x 40: 1.07 GiB for `fast` with batch 4, 1.91 for `default` with batch 2)
WORKSPACE = 1.5
RECOMPUTED = 12  # tensors of its input's size: a block that is computed again for its backward pass, and gradients


def training_memory(
    network: NetworkConfig,
    patch: tuple[int, ...],
    batch: int,
    in_channels: int,
    num_classes: int,
    diffusion: DiffusionConfig = DIFFUSION,
) -> float:
    """GiB that training in float32 takes; in bfloat16 it is a little more than half.

    Counts the tensors that autograd keeps, so it holds for every network.
    """
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FakeTensorMode():  # the `meta` device would count attention as a slow kernel does
        model = build(network, in_channels, num_classes, diffusion)
        image, mask = (torch.empty(1, n, *patch) for n in (in_channels, mask_channels(diffusion, num_classes)))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            answer = model(image, mask, torch.empty(1))
        parameters = {p.untyped_storage()._cdata: p.numel() for p in model.parameters()}
        sizes = [t.untyped_storage().nbytes() for key, t in kept.items() if key not in parameters]
        activations = sum(sizes) + RECOMPUTED * network.checkpointing * max(sizes)
    activations += 4 * answer.numel() * answer.element_size()  # probabilities and one-hot labels of the loss
    return (WORKSPACE * batch * activations + BYTES_PER_PARAMETER * sum(parameters.values())) / GIB
