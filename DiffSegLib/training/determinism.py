"""Sums of gradients in the same order each time."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Within it torch takes kernels that give the same bits each time, where it has them, and warns of any other.

    On a CPU all that DiffSeg uses are so already. On CUDA cuBLAS reads its setting when it is first used: a process
    that has used it before needs CUBLAS_WORKSPACE_CONFIG=:4096:8 from its start, and torch warns of that, too.
    """
    if not wanted:
        yield
        return
    workspace = os.environ.get(WORKSPACE)
    os.environ.setdefault(WORKSPACE, ":4096:8")
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    kept = cudnn.deterministic, cudnn.benchmark
    strict = before == (True, False)  # the caller's own wish, which is more than ours
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    cudnn.deterministic, cudnn.benchmark = True, False
    # told to warn only, torch keeps attention's faster backward pass, whose sums have no order (attention_backward.cu)
    attention = sdpa_kernel(SDPBackend.MATH) if torch.cuda.is_available() else contextlib.nullcontext()
    try:
        with attention:
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = kept
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
