"""Telling that memory ran out from everything else that may fail."""

import contextlib
from collections.abc import Iterator

import torch

from DiffSegLib.errors import InputError

# what torch says on a processor whose memory is spent, where it raises no class of its own
SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, on a GPU or in the machine."""
    return isinstance(problem, MemoryError | torch.OutOfMemoryError) or (
        isinstance(problem, RuntimeError) and any(sign in str(problem) for sign in SIGNS)
    )


@contextlib.contextmanager
def enough_for(name: str) -> Iterator[None]:
    """One sentence, an InputError, where memory runs out in the block, as it may before any network runs."""
    try:
        yield
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        raise InputError(f"{name}: memory ran out; choose a region of interest, or close other programs.") from None
