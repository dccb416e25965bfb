"""Several processes as one training: `torchrun --nproc-per-node 2 -m DiffSegLib train ...`.

Each process takes its share of every batch. The loss is a mean over samples, so the mean of the processes' gradients is
the gradient of the whole batch; every process then makes the same step, and all keep the same weights. Everything here
is one sum or extreme over all processes, and costs nothing where there is only one.
"""

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from DiffSegLib.errors import DiffSegError, EnvironmentProblem

# the first process may read a large data set while the others wait; one that dies is noticed at once all the same
PATIENCE = datetime.timedelta(hours=24)


@dataclass(frozen=True)
class Group:
    """The processes of one training; `rank` is this one's number, 0 the one that writes and speaks."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor], loss: Tensor) -> float:
        """In place: each gradient becomes the mean over the processes; returns the mean of the losses."""
        if self.world == 1:
            return float(loss)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self._reduce(torch.cat([g.reshape(-1) for g in gradients] + [loss.reshape(1)])) / self.world
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients] + [1]), strict=False):
            gradient.copy_(mean.view_as(gradient))
        return float(flat[-1])

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        return self._reduce(values.clone())

    def gather(self, values: Tensor) -> Tensor:
        """(parts, batch) of each process -> (parts x world x batch,), in the order of the samples."""
        every = values.new_zeros(len(values), self.world, *values.shape[1:])
        every[:, self.rank] = values
        return self._reduce(every).flatten()

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        return bool(self._reduce(torch.tensor(int(flag)), dist.ReduceOp.MAX))

    def of_first(self, value: float) -> float:
        """The first process's value: where clocks differ, one counts."""
        return float(self._reduce(torch.tensor(value if self.first else 0.0, dtype=torch.float64)))

    def told(self, error: DiffSegError) -> DiffSegError:
        """An error that all processes raise alike, and the first one tells."""
        return error if self.first else type(error)("")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All processes leave the block well, or all with an error: the first that failed tells its own."""
        problem: Exception | None = None
        try:
            yield
        except Exception as error:
            problem = error
        failed = int(self._reduce(torch.tensor(self.rank if problem else self.world), dist.ReduceOp.MIN))
        if problem and failed == self.rank:
            raise problem
        if failed < self.world:
            raise DiffSegError("")

    def _reduce(self, values: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
        if self.world > 1:
            try:
                dist.all_reduce(values, operation)
            except RuntimeError:
                raise DiffSegError(f"Process {self.rank}: another process of this training has ended.") from None
        return values


ALONE = Group()


@contextlib.contextmanager
def join(device: str) -> Iterator[Group]:
    """The group that torchrun has started this process in, or that is there already; a group of one otherwise.

    CUDA tensors go through NCCL, each process with a GPU of its own; everything else through Gloo. Raises
    EnvironmentProblem where there are fewer GPUs than processes.
    """
    if dist.is_initialized():
        yield Group(dist.get_rank(), dist.get_world_size())
        return
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if world == 1 or "MASTER_ADDR" not in os.environ:
        yield ALONE
        return
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise EnvironmentProblem(
                f"Process {local} finds {torch.cuda.device_count()} GPU(s); start as many processes "
                "(--nproc-per-node), or choose --device cpu."
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), world)
    finally:
        dist.destroy_process_group()
