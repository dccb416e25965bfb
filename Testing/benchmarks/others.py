"""What our networks are measured beside: MONAI's diffusion network, and a U-Net of nnU-Net's shape.

Needs the extra `bench`.
"""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor, nn

from DiffSegLib.config import NetworkConfig
from DiffSegLib.network.precision import autocast, ready
from DiffSegLib.training import bench
from DiffSegLib.training.bench import Contestant, an_image, five_steps, one_pass, training_step

AXES = (2, 3, 4)


class Theirs(nn.Module):
    """MONAI's DiffusionModelUNet behind our interface: image and mask side by side, logits out."""

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets import DiffusionModelUNet

        config = NetworkConfig()
        self.network = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=1 + bench.CLASSES,
            out_channels=bench.CLASSES,
            channels=config.channels,
            attention_levels=(False,) * (len(config.channels) - 1) + (True,),
            num_res_blocks=config.blocks,
            num_head_channels=config.channels[-1] // config.heads,
        )

    def forward(self, image: Tensor, mask: Tensor, t: Tensor) -> Tensor:
        return self.network(torch.cat([image, mask.to(image.dtype)], dim=1), t)


def nnunet() -> nn.Module:
    """The network of nnU-Net's plan for a patch of 64^3: five stages, 32 to 320 channels, instance norm."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(
        input_channels=1,
        n_stages=5,
        features_per_stage=(32, 64, 128, 256, 320),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2, 2),
        n_conv_per_stage=2,
        num_classes=bench.CLASSES,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    ).eval()


def mirrored(network: nn.Module, device: torch.device, precision: torch.dtype) -> Callable[[], object]:
    """The mean over the eight mirrorings, nnU-Net's default."""
    image, network = an_image(device), ready(network, device, precision)
    views = [axes for count in range(4) for axes in combinations(AXES, count)]

    def work() -> object:
        with torch.inference_mode(), autocast(device, precision):
            total = network(image)
            for axes in views[1:]:
                total += network(image.flip(axes)).flip(axes)
            return total / len(views)

    return work


def others(device: torch.device, precision: torch.dtype) -> list[Contestant]:
    """All of them."""
    theirs, plain = Theirs().to(device), nnunet().to(device)
    full = torch.float32
    return [
        Contestant("MONAI DiffusionModelUNet, five steps", theirs, five_steps(theirs, device, precision)),
        Contestant(
            "MONAI DiffusionModelUNet, training step with recycling", theirs, training_step(theirs, device, precision)
        ),
        Contestant("nnU-Net's network, one pass", plain, one_pass(plain, device, precision)),
        Contestant("nnU-Net's network, fp32, mirrored", plain, mirrored(plain, device, full)),
        Contestant("nnU-Net's network, mirrored", plain, mirrored(plain, device, precision)),
    ]
