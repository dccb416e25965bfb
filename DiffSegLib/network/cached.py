"""The cached network: a U-Net sees the image once, a light denoiser sees the mask at every step.

Five steps then cost little more than one pass (docs/networks.md). The image's U-Net is the supervised twin of `unet`,
logits included. The denoiser is shown what the U-Net's decoder ends with at each level; its answer is added to the
image's logits.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from DiffSegLib.config import NetworkConfig
from DiffSegLib.network.blocks import (
    Down,
    ResidualBlock,
    TimeEmbedding,
    Up,
    activation,
    add,
    channels_last,
    conv,
    norm,
    usual_layout,
)
from DiffSegLib.network.features import Features
from DiffSegLib.network.unet import UNet

NARROWEST = 16  # channels; below that a convolution costs a CPU nearly the same time


class CachedUNet(nn.Module):
    """An image U-Net and a light denoiser, in 2D or 3D; with `mask_channels` = 0 the image U-Net alone.

    Takes the arguments of UNet. In a loop over steps call `encode` once and `denoise` at each step:

        features = network.encode(image)
        logits = network.denoise(features, mask, t)         # the same as network(image, mask, t)
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        channels: tuple[int, ...] = NetworkConfig.channels,
        strides: tuple[tuple[int, ...], ...] = NetworkConfig.strides,
        blocks: int = NetworkConfig.blocks,
        heads: int = NetworkConfig.heads,
        act: str = NetworkConfig.activation,
        dropout: float = NetworkConfig.dropout,
        mask_channels: int = 0,
        attention: bool = NetworkConfig.attention,
        checkpointing: bool = NetworkConfig.checkpointing,
    ) -> None:
        super().__init__()
        self.image = UNet(
            spatial_dims,
            in_channels,
            num_classes,
            channels,
            strides,
            blocks,
            heads,
            act,
            dropout,
            attention=attention,
            checkpointing=checkpointing,
        )
        self.denoiser: Denoiser | None = None
        if mask_channels:
            self.denoiser = Denoiser(
                spatial_dims, mask_channels, num_classes, channels, strides, blocks, act, dropout, checkpointing
            )

    def encode(self, image: Tensor) -> Features:
        """(B, in_channels, *spatial) -> the image's own logits, then its features for each level of the denoiser."""
        levels = self.image.levels(image)
        logits = self.image.head(levels[0]).contiguous()
        return (logits,) if self.denoiser is None else (logits, *self.denoiser.guides_of(levels))

    def denoise(self, features: Features, mask: Tensor | None, t: Tensor | None) -> Tensor:
        """mask: (B, mask_channels, *spatial) in [0, 1]; t: (B,) in (0, 1] -> (B, num_classes, *spatial) logits."""
        logits, *guides = features
        if self.denoiser is None or mask is None or t is None:
            return logits
        return logits + self.denoiser(guides, mask, t)

    def forward(self, image: Tensor, mask: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """image: (B, in_channels, *spatial); mask, t as in `denoise`."""
        return self.denoise(self.encode(image), mask, t)


class Denoiser(nn.Module):
    """From mask, time and the image's features to what is added to the image's logits.

    Down: one strided convolution a level, from the mask itself to half the image network's channels, each joined by the
    image's features. Up: `blocks` residual blocks with time a level, so none at full resolution; there the image's
    features, the mask and what came up are added and mixed by the head.
    """

    def __init__(
        self,
        spatial_dims: int,
        mask_channels: int,
        num_classes: int,
        channels: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        blocks: int,
        act: str,
        dropout: float,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        widths = [max(NARROWEST, n // 2) for n in channels]
        self.time, self.act = TimeEmbedding(channels[-1]), activation(act)
        self.guides = nn.ModuleList(
            nn.Sequential(conv(spatial_dims, have, width, 1, bias=False), norm(width))
            for have, width in zip(channels, widths, strict=True)
        )
        self.down = nn.ModuleList(
            Down(spatial_dims, above, below, stride)
            for (above, below), stride in zip(pairwise([mask_channels, *widths[1:]]), strides, strict=True)
        )
        self.up = nn.ModuleList(
            Up(spatial_dims, below, above, stride)
            for (above, below), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(spatial_dims, width, channels[-1], act, dropout, checkpointing=checkpointing)
                for _ in range(blocks)
            )
            for width in widths[1:]
        )
        self.mask = conv(spatial_dims, mask_channels, widths[0], 1, bias=False)
        self.shift = nn.Linear(channels[-1], widths[0])
        self.head = conv(spatial_dims, widths[0], num_classes, 1)

    def guides_of(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The image's features in the denoiser's channels, from the finest to the coarsest: no step changes them."""
        stages = [cast(nn.Sequential, guide) for guide in self.guides]
        return [stage[1](usual_layout(stage[0](x))) for stage, x in zip(stages, levels, strict=True)]

    def forward(self, guides: Sequence[Tensor], mask: Tensor, t: Tensor) -> Tensor:
        """guides: of `guides_of`; mask: (B, mask_channels, *spatial); t: (B,) -> (B, num_classes, *spatial)."""
        embedding = self.time(t)
        # as the image's features lie in memory: all that comes from the mask would lie as it does, after one_hot
        layout = torch.channels_last_3d if channels_last(guides[0]) else torch.contiguous_format
        mask = mask.to(guides[0].dtype).contiguous(memory_format=layout)
        x, skips = mask, []
        for down, guide in zip(self.down, guides[1:], strict=True):
            x = self.act(down(x) + guide)
            skips.append(x)
        for level in range(len(skips), 0, -1):
            x = x if level == len(skips) else x + skips[level - 1]
            for block in cast(nn.ModuleList, self.blocks[level - 1]):
                x = block(x, embedding)
            shift = self.shift(self.act(embedding)) if level == 1 else None
            x = self.up[level - 1](x, guides[level - 1].shape[2:], shift)
        return self.head(self.act(add(add(x, guides[0]), self.mask(mask)))).contiguous()
