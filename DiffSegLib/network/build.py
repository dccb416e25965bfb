"""A network from its configuration: `build(config, in_channels, num_classes, diffusion)`."""

from typing import Any

from torch import nn

from DiffSegLib.config import DiffusionConfig, NetworkConfig
from DiffSegLib.config_rules import check_network
from DiffSegLib.diffusion import process
from DiffSegLib.network.cached import CachedUNet
from DiffSegLib.network.twins import dynunet, segresnet
from DiffSegLib.network.unet import UNet

DIFFUSION = DiffusionConfig()


def build(
    config: NetworkConfig, in_channels: int, num_classes: int, diffusion: DiffusionConfig = DIFFUSION
) -> nn.Module:
    """The network of a configuration; its forward is (image, mask, t) -> output (B, num_classes, *spatial).

    Every constructor takes spatial_dims, in_channels, num_classes, channels, strides, blocks and dropout.

    diffusion: its strategy decides on the channels of the mask (none for the supervised twin, two masks with
    self-conditioning); a learned variance doubles the channels of the output.

    Raises InputError where the network cannot be had in this size or for this strategy.
    """
    check_network(config, diffusion)
    sizes: dict[str, Any] = {
        "spatial_dims": len(config.strides[0]),
        "in_channels": in_channels,
        "num_classes": process.output_channels(diffusion, num_classes),
        "channels": config.channels,
        "strides": config.strides,
        "blocks": config.blocks,
        "dropout": config.dropout,
    }
    if config.name in ("dynunet", "segresnet"):
        return {"dynunet": dynunet, "segresnet": segresnet}[config.name](**sizes)
    own: dict[str, Any] = {
        "heads": config.heads,
        "act": config.activation,
        "mask_channels": process.mask_channels(diffusion, num_classes),
        "attention": config.attention,
        "checkpointing": config.checkpointing,
    }
    if config.name == "cached":
        return CachedUNet(**sizes, **own)
    return UNet(**sizes, **own, time_before_norm=config.time == "before_norm")
