"""Batches ahead of the network: while it works on one, threads cut the next (torch leaves them the interpreter).

Which thread makes a batch, and when, changes nothing: each number of a sample comes from its position.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from torch import Tensor

from DiffSegLib.config import Config
from DiffSegLib.data.patches import Prepared, batch_of


def batches(
    cases: list[Prepared], config: Config, first: int, stride: int, threads: int = 1, pinned: bool = False
) -> Generator[tuple[range, Tensor, Tensor], None, None]:
    """Without end: the positions of a batch, its images (B, C, *patch) and labels (B, *patch).

    Batch m begins at `first + m * stride`. pinned: in memory that a GPU copies from by itself. Close it to end the
    threads.
    """
    size = config.training.batch

    def make(m: int) -> tuple[range, Tensor, Tensor]:
        start = first + m * stride
        positions = range(start, start + size)
        image, label = batch_of(cases, config.data, config.augment, config.training.seed, positions)
        return positions, *((image.pin_memory(), label.pin_memory()) if pinned else (image, label))

    with ThreadPoolExecutor(threads, "batches") as pool:
        waiting = deque(pool.submit(make, m) for m in range(threads))
        try:
            for m in count(threads):
                waiting.append(pool.submit(make, m))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
