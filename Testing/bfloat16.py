"""A mark for tests of what only processors with bfloat16 do; on others they are skipped, and say so."""

import pytest
import torch

from DiffSegLib.network.precision import pick_precision

with_bfloat16 = pytest.mark.skipif(
    pick_precision("auto", torch.device("cpu")) != torch.bfloat16,
    reason="this processor has no bfloat16: torch's convolution, which is never asked for it, answers planar",
)
