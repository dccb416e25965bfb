"""Several networks that answer as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from DiffSegLib.diffusion.gaussian import PROBABILITY_EPS
from DiffSegLib.network.features import Features, denoise, encode


class Ensemble(nn.Module):
    """At each step the mean of its members' class probabilities, as logits; so the chain goes on from the mean.

    supervised: for each member, whether it sees the image alone; it is asked once for all steps. exclusive: softmax
    over classes, else a sigmoid for each. All members predict x_0 of the same classes, with a fixed variance.
    """

    def __init__(self, members: Sequence[nn.Module], supervised: Sequence[bool], exclusive: bool = True) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.supervised, self.exclusive = tuple(supervised), exclusive
        self._counts: list[int] = []

    def encode(self, image: Tensor) -> Features:
        """What the members keep of the image (B, channels, *spatial), one after the other."""
        parts: list[Features] = []
        for member, plain in zip(self.members, self.supervised, strict=True):
            kept = encode(member, image)
            parts.append((denoise(member, kept, None, image.new_zeros(len(image))),) if plain else kept)
        self._counts = [len(part) for part in parts]  # the same for every image
        return tuple(feature for part in parts for feature in part)

    def denoise(self, features: Features, mask: Tensor | None, t: Tensor) -> Tensor:
        """See features.denoise."""
        remaining = iter(features)
        answers = []
        for member, plain, count in zip(self.members, self.supervised, self._counts, strict=True):
            own = tuple(next(remaining) for _ in range(count))
            output = (own[0] if plain else denoise(member, own, mask, t)).float()
            answers.append(torch.softmax(output, dim=1) if self.exclusive else torch.sigmoid(output))
        mean = torch.stack(answers).mean(0)
        return torch.log(mean.clamp_min(PROBABILITY_EPS)) if self.exclusive else torch.logit(mean, PROBABILITY_EPS)

    def forward(self, image: Tensor, mask: Tensor | None, t: Tensor) -> Tensor:
        """Image, mask and t as any network's; logits (B, classes, *spatial)."""
        return self.denoise(self.encode(image), mask, t)
