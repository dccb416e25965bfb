"""MONAI's DynUNet and SegResNet as supervised twins: networks of the image alone, to compare ours with."""

from torch import Tensor, nn

from DiffSegLib.config import NetworkConfig


class Twin(nn.Module):
    """A network that takes whole strides only, for images of any size: zeros at the end, cropped off its answer.

    factors: its total stride along each axis.
    """

    def __init__(self, network: nn.Module, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.factors = network, factors

    def forward(self, image: Tensor, mask: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """image: (B, in_channels, *spatial) -> (B, num_classes, *spatial) logits; there is no mask and no time."""
        size = image.shape[2:]
        whole = [-(-n // f) * f for n, f in zip(size, self.factors, strict=True)]
        whole[-1] = max(whole[-1], 2 * self.factors[-1])  # instance norm refuses a bottom of one voxel
        padding = [n for have, want in zip(size[::-1], whole[::-1], strict=True) for n in (0, want - have)]
        out: Tensor = self.network(nn.functional.pad(image, padding))
        return out[(slice(None), slice(None), *(slice(0, n) for n in size))]


def dynunet(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    channels: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    blocks: int = 1,
    dropout: float = 0.0,
) -> Twin:
    """MONAI's DynUNet, the U-Net of nnU-Net, with its own two convolutions a level (`blocks` is not used).

    It takes at least three levels and strides of at most 4.
    """
    from monai.networks.nets import DynUNet

    network = DynUNet(
        spatial_dims,
        in_channels,
        num_classes,
        kernel_size=[3] * len(channels),
        strides=[1, *strides],
        upsample_kernel_size=list(strides),
        filters=channels,
        dropout=dropout or None,
    )
    # its own forward without deep supervision; the module itself lists every weight twice
    return Twin(nn.Sequential(network.skip_layers, network.output_block), NetworkConfig(strides=strides).factors)


def segresnet(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    channels: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    blocks: int = 1,
    dropout: float = 0.0,
) -> Twin:
    """MONAI's SegResNet with `blocks` residual blocks a level, up and down; channels double and strides are 2."""
    from monai.networks.nets import SegResNet

    network = SegResNet(
        spatial_dims,
        init_filters=channels[0],
        in_channels=in_channels,
        out_channels=num_classes,
        dropout_prob=dropout or None,
        blocks_down=(blocks,) * len(channels),
        blocks_up=(blocks,) * len(strides),
    )
    return Twin(network, NetworkConfig(strides=strides).factors)
