"""Several processes that train together, as `torchrun` starts them; one process where it did not."""

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
    """Which of how many processes this is.

    Attributes:
        rank: from 0.
        count: of all machines.
        local: of this machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and tells people."""
        return self.rank == 0

    def from_first(self, value: T | None) -> T:
        """The value that the first process gives, in all of them."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, src=0)
        (shared,) = values
        assert shared is not None
        return shared

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that `torchrun` started, able to talk to each other while this is open."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or dist.is_initialized():
        yield Processes()
        return
    # Gloo beside NCCL: what is said before training is said between CPUs.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(dist.get_rank(), count, int(os.environ.get("LOCAL_WORLD_SIZE", count)))
    finally:
        dist.destroy_process_group()
