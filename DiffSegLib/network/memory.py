"""Telling that memory ran out from everything else that may fail."""

import torch

# what torch says on a processor whose memory is spent, where it raises no class of its own
SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, on a GPU or in the machine."""
    return isinstance(problem, MemoryError | torch.OutOfMemoryError) or (
        isinstance(problem, RuntimeError) and any(sign in str(problem) for sign in SIGNS)
    )
