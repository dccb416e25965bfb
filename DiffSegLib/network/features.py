"""A network in two parts: what depends on the image alone, and what depends on mask and time too.

Training and inference run every network this way, so that the first part runs once for all passes over an image.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Features = tuple[Tensor, ...]  # each (B, any, *any)


@runtime_checkable
class TwoParts(Protocol):
    """A network that says itself what its parts are, as CachedUNet does. Of any other the features are the image."""

    def encode(self, image: Tensor) -> Features:
        """(B, in_channels, *spatial) -> what all steps need of the image."""

    def denoise(self, features: Features, mask: Tensor | None, t: Tensor | None) -> Tensor:
        """Mask (B, mask_channels, *spatial) or None, t (B,) -> the network's output (B, num_classes, *spatial)."""


def encode(network: Callable[..., Tensor], image: Tensor) -> Features:
    """What `network` needs of the image (B, in_channels, *spatial) at every step."""
    return network.encode(image) if isinstance(network, TwoParts) else (image,)


def denoise(network: Callable[..., Tensor], features: Features, mask: Tensor | None, t: Tensor) -> Tensor:
    """The output of `network` for the mask and time of one step."""
    return network.denoise(features, mask, t) if isinstance(network, TwoParts) else network(*features, mask, t)


def rows_of(features: Features, rows: Tensor | None) -> Features:
    """The features of some samples of the batch, `rows` (n,) int64 on any device; all of them for None."""
    return features if rows is None else tuple(x[rows.to(x.device)] for x in features)
