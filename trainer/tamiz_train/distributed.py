"""Training in several processes, which `torchrun` starts; a single process if it did not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: the index of this process among all processes, from 0.
        count: the number of processes on all machines.
        local_count: the number of processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def from_first(self, value: T | None) -> T:
        """Broadcast the value of the first process to all processes; the others pass None."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, src=0)
        (shared,) = values
        assert shared is not None
        return shared

    def union(self, values: set[str]) -> set[str]:
        """The values of all processes; each of them passes its own."""
        if self.count == 1:
            return values
        gathered: list[set[str]] = [set()] * self.count
        dist.all_gather_object(gathered, values)
        return set().union(*gathered)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def connect_processes() -> Iterator[Processes]:
    """Connect the processes that `torchrun` started, for as long as the context is open."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or dist.is_initialized():
        yield Processes()
        return
    # Gloo in addition to NCCL, because values that are shared before training are on the CPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(dist.get_rank(), count, int(os.environ.get("LOCAL_WORLD_SIZE", count)))
    finally:
        dist.destroy_process_group()
