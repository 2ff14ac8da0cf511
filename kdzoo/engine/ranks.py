"""The world of ranks: processes that train one cell together, as a launcher started them. One process is a world too.

A launcher (``accelerate launch``, ``torchrun``) tells each process its rank and how many there are by environment
variables. Rank 0 leads: it alone writes, and the others do what it decides.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdzoo.errors import UsageError

_PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another one: rank 0 may measure a teacher alone, or write to a slow disk."""
_LAST_WORDS = timedelta(seconds=20)
"""How long a rank that fails waits for rank 0 to record it, before the launcher ends them all."""
_FAILED, _OVER = "failed", "over"

T = TypeVar("T")


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
    """

    def __init__(self, rank: int = 0, size: int = 1, store: dist.Store | None = None) -> None:
        self.rank, self.size, self._store = rank, size, store

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
            store, rank, size = next(dist.rendezvous("env://", timeout=_PATIENCE))
        except ValueError as error:
            raise UsageError(f"the launcher does not say how the processes find each other: {error}") from None
        store.set_timeout(_PATIENCE)
        group = dist.PrefixStore("kdzoo/group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=_PATIENCE)
        return cls(rank, size, dist.PrefixStore("kdzoo/world", store))

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks, which have one shape; the own one is the very tensor, others carry no gradient."""
        if self.size == 1:
            return [tensor]
        own = tensor.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        parts[self.rank] = tensor
        return parts

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place; the same bits on each."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, value: T) -> T:
        """Rank 0's value, which must pickle; what the others give is not looked at."""
        if self.size == 1:
            return value
        values = [value if self.leads else None]
        dist.broadcast_object_list(values, src=0)
        shared: T = values[0]  # type: ignore[assignment]
        return shared

    def collect(self, value: T) -> list[T]:
        """The values of all ranks in their order; they must pickle."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def after_leader(self, work: Callable[[], T]) -> T:
        """The result of work that each rank does for itself, rank 0 first: the others find what it left in the store."""
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
            dist.broadcast(values, src=0)
            tensor.detach().copy_(values)

    def turns(self, count: int) -> range:
        """The numbers below ``count`` that are this rank's, when they are dealt out in turn."""
        return range(self.rank, count, self.size)

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
            return own
        first = self._store.compare_set(_FAILED, "", f"{reason}\n{story}").decode()
        told, _, at = first.partition("\n")
        if dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()
        return Failure(told, at)

    def end(self) -> None:
        """Leave in order: rank 0 when all is recorded, the others after it."""
        if self._store is None:
            return
        if self.leads:
            self._store.set(_OVER, "")
        else:
            self._wait_for_leader()
        if dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()

    def _wait_for_leader(self) -> None:
        assert self._store is not None
        try:
            self._store.wait([_OVER], _LAST_WORDS)
        except dist.DistStoreError:
            return  # rank 0 hangs or is gone: the launcher ends it when this process ends


ALONE = World()
"""The world of a process that no launcher started."""
