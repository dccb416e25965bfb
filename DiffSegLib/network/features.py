"""A network in two parts: what depends on the image alone, and what depends on mask and time too.

Training and inference run every network this way, so that the first part runs once for all passes over an image.
"""

from typing import Any

from torch import Tensor

Features = tuple[Tensor, ...]  # each (B, any, *any)


def encode(network: Any, image: Tensor) -> Features:
    """What `network` needs of the image (B, in_channels, *spatial) at every step: the image, unless it says itself.

    As CachedUNet does, by methods `encode` and `denoise` with the arguments of the functions here.
    """
    return network.encode(image) if hasattr(network, "encode") else (image,)


def denoise(network: Any, features: Features, mask: Tensor | None, t: Tensor) -> Tensor:
    """Mask (B, mask_channels, *spatial) or None, t (B,) -> the network's output (B, num_classes, *spatial)."""
    return network.denoise(features, mask, t) if hasattr(network, "encode") else network(*features, mask, t)


def rows_of(features: Features, rows: Tensor | None) -> Features:
    """The features of some samples of the batch, `rows` (n,) int64 on any device; all of them for None."""
    return features if rows is None else tuple(x[rows.to(x.device)] for x in features)
