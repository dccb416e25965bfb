"""A network from its configuration: `build(config, dims, in_channels, num_classes)`."""

from torch import nn

from DiffSegLib.config import NetworkConfig
from DiffSegLib.network.unet import UNet


def build(config: NetworkConfig, in_channels: int, num_classes: int, mask_channels: int | None = None) -> nn.Module:
    """The network of a configuration; its forward is (image, mask, t) -> logits (B, num_classes, *spatial).

    mask_channels: channels of the noisy mask, `num_classes` by default; 0 builds the supervised twin.
    """
    return UNet(
        spatial_dims=len(config.strides[0]),
        in_channels=in_channels,
        num_classes=num_classes,
        channels=config.channels,
        strides=config.strides,
        blocks=config.blocks,
        heads=config.heads,
        act=config.activation,
        dropout=config.dropout,
        mask_channels=num_classes if mask_channels is None else mask_channels,
    )
