"""The world of ranks: processes that train one cell together, as a launcher started them. One process is a world too.

A launcher (``accelerate launch``, ``torchrun``) tells each process its rank and how many there are by environment
variables. Rank 0 leads: it alone writes, and the others do what it decides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from kdzoo.errors import KdzooError, UsageError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


_PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another one: rank 0 may measure a teacher alone, or write to a slow disk."""
_LAST_WORDS = timedelta(seconds=20)
"""How long a rank that fails waits for rank 0 to record it, before the launcher ends them all; and rank 0 for the
others to hear of the end."""
_FAILED, _OVER, _HEARD = "kdzoo/failed", "kdzoo/over", "kdzoo/heard"

_T = TypeVar("_T")


class LostRankError(KdzooError):
    """Another process of this cell is gone. That is no result of the cell: what is finished of it is kept."""


def launched() -> int:
    """How many processes a launcher says there are; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_launcher() -> None:
    """Refuse a launch that was meant for several processes and started one.

    Raises:
        UsageError: as ``accelerate launch --cpu --num_processes 2`` does, which leaves the others to MPI.
    """
    named = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if named and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            "accelerate launch --cpu starts one process, however many it is asked for; "
            "write accelerate launch --multi_gpu --num_processes N, which starts N of them on CPUs too"
        )


@dataclass(frozen=True)
class Failure:
    """What ended a rank: the reason in one line, and the traceback."""

    reason: str
    story: str


class World:
    """The ranks, and what they say to each other. All of them must make the same calls in the same order.

    In a world of one, every method gives back what it was given.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        failed_here: whether this rank failed before any other did.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self._group: dist.ProcessGroup | None = None
        self.failed_here = False

    @classmethod
    def join(cls, device: torch.device) -> World:
        """Meet the others that the launcher started, and take a device of one's own.

        Args:
            device: where the cell is trained: the CPU, or CUDA, whose devices are handed out by local rank.

        Raises:
            UsageError: the device cannot be shared by processes, or the launcher does not say how to find the others.
        """
        if launched() == 1:
            return cls()
        if device.type not in ("cpu", "cuda"):
            raise UsageError(f"several processes train one cell on CPUs or on CUDA devices, not on {device.type}")
        backend = "gloo"
        if device.type == "cuda":
            local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
            torch.cuda.set_device(local % count)
            # NCCL refuses two ranks on one device; gloo serves them, through the host's memory.
            if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= count:
                backend = "cuda:nccl,cpu:gloo"
        try:
            store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
        except ValueError as error:
            raise UsageError(f"the launcher does not say how the processes find each other: {error}") from None
        store.set_timeout(_PATIENCE)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
        return cls(rank, size, store)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks, which have one shape; the own one is the very tensor, others carry no gradient."""
        if self.size == 1:
            return [tensor]
        own = tensor.detach().contiguous()
        if own.dtype is torch.int16:  # neither gloo nor NCCL carries it
            own = own.int()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        with _talking():
            dist.all_gather(parts, own)
        parts = [part.to(tensor.dtype) for part in parts]
        parts[self.rank] = tensor
        return parts

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place; the same bits on each."""
        if self.size > 1:
            with _talking():
                dist.all_reduce(tensor)
        return tensor

    def share(self, value: _T) -> _T:
        """Rank 0's value, which must pickle; what the others give is not looked at."""
        if self.size == 1:
            return value
        values = [value if self.leads else None]
        with _talking():
            dist.broadcast_object_list(values, src=0)
        shared: _T = values[0]  # type: ignore[assignment]
        return shared

    def lead(self, work: Callable[[], _T]) -> _T:
        """The result of work that rank 0 does for all; it must pickle."""
        return self.share(work() if self.leads else None)  # type: ignore[return-value]

    def collect(self, value: _T) -> list[_T]:
        """The values of all ranks in their order; they must pickle."""
        if self.size == 1:
            return [value]
        values: list[_T | None] = [None] * self.size
        with _talking():
            dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def after_leader(self, work: Callable[[], _T]) -> _T:
        """The result of work that each rank does for itself, after rank 0: it finds what that left in the store."""
        if self.leads:
            done = work()
            self.share(None)
            return done
        self.share(None)
        return work()

    def level(self, module: nn.Module) -> None:
        """Give the parameters and buffers of a module rank 0's values, bit for bit."""
        if self.size == 1:
            return
        for tensor in (*module.parameters(), *module.buffers()):
            values = tensor.detach().contiguous()
            with _talking():
                dist.broadcast(values, src=0)
            tensor.detach().copy_(values)

    def turns(self, count: int) -> range:
        """The numbers below ``count`` that are this rank's, when they are dealt out in turn."""
        return range(self.rank, count, self.size)

    def own_group(self) -> dist.ProcessGroup:
        """A group for the gradients alone, made once: what else the ranks say meanwhile does not get between them."""
        if self._group is None:
            self._group = cast(dist.ProcessGroup, dist.new_group())
        return self._group

    def __deepcopy__(self, memo: dict[int, object]) -> World:
        return self  # a copied network is in the same world

    def fail(self, reason: str, story: str) -> Failure:
        """Tell the others that this rank failed, and leave them; gives what failed first, here or elsewhere.

        A rank that waits for this one is set free: its own call fails (with NCCL, the launcher ends it). It then finds
        here why.

        Args:
            reason: in one line.
            story: the traceback.
        """
        own = Failure(reason, story)
        if self._store is None:
            self.failed_here = True
            return own
        try:
            failure = self._store.compare_set(_FAILED, "", f"{self.rank}\n{reason}\n{story}").decode()
        except dist.DistError:  # where rank 0 keeps the store and is gone
            failure = f"{self.rank}\n{reason}\n{story}"
        number, reason, story = failure.split("\n", 2)
        self.failed_here = int(number) == self.rank
        if dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()
        return Failure(reason, story)

    def has_failed(self) -> bool:
        """Whether a rank told that it failed, and was not just lost."""
        return self._store is not None and self._store.check([_FAILED])

    def end(self, *, lost: bool = False) -> bool:
        """Rank 0 tells the others that all is recorded, and they wait for it; gives whether it came to that.

        Args:
            lost: whether another rank is gone, so that rank 0 does not wait for all of them to hear it.
        """
        if self._store is None:
            return True
        try:
            if self.leads:
                self._store.set(_OVER, "")
                if not lost:  # the store ends with this process
                    self._store.wait([f"{_HEARD}/{rank}" for rank in range(1, self.size)], _LAST_WORDS)
                return True
            self._store.wait([_OVER], _LAST_WORDS)
            self._store.set(f"{_HEARD}/{self.rank}", "")
        except dist.DistError:
            return self.leads  # rank 0 hangs or is gone; the launcher ends it when this process has ended
        return True

    def leave(self) -> None:
        """Part in order."""
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _lost(error) from error


@contextmanager
def lost_ranks() -> Iterator[None]:
    """In the ``with`` block the ranks talk beside other work: only what torch says of their talk means a lost rank.

    Raises:
        LostRankError: another rank is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "ProcessGroup")):
            raise _lost(error) from error
        raise


def _lost(error: RuntimeError) -> LostRankError:
    return LostRankError(
        "another process of this cell is gone or does not answer; finished epochs are kept: start all of them "
        f"again to resume ({str(error).splitlines()[0]})"
    )


ALONE = World()
"""The world of a process that no launcher started."""
