"""A network from its configuration: `build(config, in_channels, num_classes, diffusion)`."""

from torch import nn

from DiffSegLib.config import DiffusionConfig, NetworkConfig
from DiffSegLib.diffusion import process
from DiffSegLib.network.unet import UNet

DIFFUSION = DiffusionConfig()


def build(
    config: NetworkConfig, in_channels: int, num_classes: int, diffusion: DiffusionConfig = DIFFUSION
) -> nn.Module:
    """The network of a configuration; its forward is (image, mask, t) -> output (B, num_classes, *spatial).

    diffusion: its strategy decides on the channels of the mask (none for the supervised twin, two masks with
    self-conditioning); a learned variance doubles the channels of the output.
    """
    return UNet(
        spatial_dims=len(config.strides[0]),
        in_channels=in_channels,
        num_classes=process.output_channels(diffusion, num_classes),
        channels=config.channels,
        strides=config.strides,
        blocks=config.blocks,
        heads=config.heads,
        act=config.activation,
        dropout=config.dropout,
        mask_channels=process.mask_channels(diffusion, num_classes),
        attention=config.attention,
        time_before_norm=config.time == "before_norm",
    )
