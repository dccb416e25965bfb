"""The reference's numbers for tests: mathpluscode/ImgX-DiffSeg at ce57729, executed in double precision.

Arrays are channels-last there; `field` makes them channels-first.
"""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = json.loads((Path(__file__).parent / "fixtures" / "golden_diffusion.json").read_text())
SPELLED = {"quadradic": "quadratic", "cosine": "cosine_imgx"}  # the reference's names that ours differ from


def field(values):
    """(B, *spatial, C) numbers -> (B, C, *spatial) float64."""
    return torch.tensor(values, dtype=torch.float64).movedim(-1, 1)


def given(name):
    """One of the inputs that the numbers were computed from."""
    return field(GOLDEN["inputs"][name])


def close(found, wanted, rtol=1e-5):
    np.testing.assert_allclose(
        found.detach() if isinstance(found, torch.Tensor) else found, wanted, rtol=rtol, atol=1e-9
    )


class ToyNetwork:
    """The reference's toy: w (2 mask + 0.7 second mask) + (c + 1) / 2 image - t (c - 1), one parameter w = 0.8."""

    def __init__(self, process):
        self.process = process
        self.w = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def __call__(self, mask, t):
        c = torch.arange(3, dtype=torch.float64).reshape(1, 3, 1, 1)
        first, second = mask[:, :3], mask[:, 3:] if mask.shape[1] > 3 else 0.0
        t = t.double().reshape(-1, 1, 1, 1)
        return self.w * (2 * first + 0.7 * second) + 0.5 * (c + 1) * given("image") - t * (c - 1)

    def predict(self, mask, index, rows=None):
        """As the training strategies call it."""
        return self(mask, self.process.time(index))
