"""The U-Net of ImgX-DiffSeg: image and noisy mask in, logits out, attention at the bottom, skips added.

Topology of the public reference (v0.3.2): stem, residual blocks and strided convolution per level; at the bottom
block - transformer - block; on the way up one block per saved encoder feature, which is added, not concatenated.
"""

from typing import cast

import torch
from torch import Tensor, nn

from DiffSegLib.config import NetworkConfig
from DiffSegLib.network.blocks import (
    Down,
    ResidualBlock,
    TimeEmbedding,
    Transformer,
    Up,
    activation,
    arranged,
    conv,
    norm,
    usual_layout,
)


class UNet(nn.Module):
    """A diffusion U-Net in 2D or 3D; with `mask_channels` = 0 the same network without mask and time.

    spatial_dims: 2 or 3. in_channels: of the image. num_classes: channels out, background included.
    mask_channels: channels of the noisy mask (num_classes; twice that with self-conditioning; 0: plain segmentation).
    channels: per level. strides: one per transition, each with spatial_dims numbers. blocks: residual blocks per level.
    attention: a transformer layer at the bottom. time_before_norm, checkpointing: see ResidualBlock.

        UNet(3, 1, 3, mask_channels=3)(image, mask, t)      # (B, 3, *spatial) logits
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
        time_before_norm: bool = False,
        checkpointing: bool = NetworkConfig.checkpointing,
    ) -> None:
        super().__init__()
        time_dim = channels[-1] if mask_channels else None
        self.time = TimeEmbedding(channels[-1]) if mask_channels else None
        self.act = activation(act)
        self.stem = conv(spatial_dims, in_channels + mask_channels, channels[0], 3, padding=1, bias=False)
        self.stem_norm = norm(channels[0])

        def block(level: int) -> ResidualBlock:
            return ResidualBlock(spatial_dims, channels[level], time_dim, act, dropout, time_before_norm, checkpointing)

        levels = range(len(channels))
        self.encoder = nn.ModuleList(nn.ModuleList(block(i) for _ in range(blocks)) for i in levels)
        self.down = nn.ModuleList(
            Down(spatial_dims, channels[i], channels[i + 1], stride) for i, stride in enumerate(strides)
        )
        self.bottom1, self.bottom2 = block(-1), block(-1)
        # head size: a quarter of the channels, the reference's widening factor
        self.transformer = Transformer(channels[-1], heads, channels[-1] // 4, dropout) if attention else None
        self.decoder = nn.ModuleList(nn.ModuleList(block(i) for _ in range(blocks + 1)) for i in levels)
        self.up = nn.ModuleList(
            Up(spatial_dims, channels[i + 1], channels[i], stride) for i, stride in enumerate(strides)
        )
        self.head = conv(spatial_dims, channels[0], num_classes, 1)

    def forward(self, image: Tensor, mask: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """image: (B, in_channels, *spatial); mask: (B, mask_channels, *spatial) in [0, 1]; t: (B,) in (0, 1]."""
        return self.head(self.levels(image, mask, t)[0]).contiguous()

    def levels(self, image: Tensor, mask: Tensor | None = None, t: Tensor | None = None) -> list[Tensor]:
        """What the decoder ends with at each level, from the finest to the coarsest: (B, channels[level], *size).

        Each in the memory layout of its level.
        """
        embedding = None
        x = image
        if self.time is not None and mask is not None and t is not None:
            embedding = self.time(t)
            x = torch.cat([image, mask.to(image.dtype)], dim=1)
        x = arranged(self.act(self.stem_norm(self.stem(arranged(x, cast(int, self.stem.out_channels))))))
        skips = [x]
        for level, stage in enumerate(self.encoder):
            for block in cast(nn.ModuleList, stage):
                x = block(x, embedding)
                skips.append(x)
            if level < len(self.down):
                x = arranged(self.down[level](x))
                skips.append(x)
        x = self.bottom1(x, embedding)
        if self.transformer is not None:
            x = usual_layout(self.transformer(x, self.act))
        x = self.bottom2(x, embedding)
        found: list[Tensor] = []
        for level in reversed(range(len(self.decoder))):
            for block in cast(nn.ModuleList, self.decoder[level]):
                x = block(x + skips.pop(), embedding)
            found.insert(0, x)
            if level > 0:
                x = arranged(self.up[level - 1](x, skips[-1].shape[2:]))
        return found
