"""Shared memory: images reach a server on the same machine without passing through a connection.

Each request in flight has its own region, a file in ``/dev/shm`` that is registered with the server. A region
stays locked while the process of its client lives (`tamiz.locks`). So the next client to start recognises the regions
of a killed one and removes them, and `tamiz.engine.exchange` unregisters them from the servers.
"""

from __future__ import annotations

import mmap
import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import SharedMemoryError, os_reason
from ..locks import lock
from ..preprocessing import Pixels

PREFIX = "tamiz-images-"
FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is on Linux


class Region:
    """A piece of shared memory.

    Attributes:
        name: name of the region on the servers, and of its file.
        size: size in bytes.
        registered_with: URLs of the servers that the region is registered with.

    Raises:
        SharedMemoryError: this machine has no shared memory, or not enough.
    """

    def __init__(self, size: int) -> None:
        self.name = f"{PREFIX}{secrets.token_hex(8)}"
        self.size = size
        self.registered_with: set[str] = set()
        try:
            # The file gets its name after it is locked, so that it never looks abandoned.
            unlocked = FOLDER / f"tamiz-new-{self.name}"
            self._file = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                lock(self._file)
                unlocked.rename(FOLDER / self.name)
                # Reserved now: to run out of memory when writing would end the process with SIGBUS.
                os.posix_fallocate(self._file, 0, size)
                self._memory = mmap.mmap(self._file, size)
            except BaseException:
                unlocked.unlink(missing_ok=True)
                (FOLDER / self.name).unlink(missing_ok=True)
                os.close(self._file)
                raise
        except OSError as exc:
            raise SharedMemoryError(
                f"shared_memory: {size:,} bytes in {FOLDER}: {os_reason(exc)}; "
                f"enlarge {FOLDER}, or leave shared_memory out"
            ) from exc

    def write(self, images: Iterable[Pixels]) -> None:
        """Copy images into the region, one after another."""
        end = 0
        for image in images:
            start, end = end, end + image.nbytes
            self._memory[start:end] = image.data.cast("B")

    def disown(self) -> None:
        """In the child of a fork: leave the region, and its lock, to the parent."""
        self._memory.close()
        os.close(self._file)

    def remove(self) -> None:
        """Delete the region; its memory is free when no server has it open any more."""
        self.disown()
        (FOLDER / self.name).unlink(missing_ok=True)


class SharedMemory:
    """The regions of one client."""

    def __init__(self) -> None:
        remove_abandoned()
        # Reentrant, because the garbage collector may close the client at any point of a thread.
        self._lock = threading.RLock()
        self._regions: list[Region] = []
        self._free: list[Region] = []
        self._closed = False

    @property
    def regions(self) -> Sequence[Region]:
        """All regions, in use or not."""
        return tuple(self._regions)

    def lease(self, size: int) -> Region:
        """A region of at least ``size`` bytes that no other request uses; `give_back` ends the lease.

        Raises:
            SharedMemoryError: this machine has no shared memory, or not enough.
        """
        with self._lock:
            fitting = next((region for region in self._free if region.size >= size), None)
            if fitting is not None:
                self._free.remove(fitting)
                return fitting
            region = Region(size)
            self._regions.append(region)
            return region

    def give_back(self, region: Region) -> None:
        """End a lease."""
        with self._lock:
            if self._closed:
                self._regions.remove(region)
                region.remove()
            else:
                self._free.append(region)

    def forget_server(self, url: str) -> None:
        """Mark every region as not registered with a server, because it may have restarted."""
        for region in self.regions:
            region.registered_with.discard(url)

    def disown(self) -> None:
        """In the child of a fork: leave all regions to the parent."""
        for region in self.regions:
            region.disown()

    def close(self) -> Sequence[Region]:
        """Delete all regions, and return those that can be unregistered from the servers.

        A region that is leased is deleted when its lease ends. It stays registered until another client starts on this
        machine, because a server crashes that reads from a region while it is unregistered.
        """
        with self._lock:
            self._closed = True
            for region in self._free:
                self._regions.remove(region)
                region.remove()
            deleted, self._free = self._free, []
            return deleted


def remove_abandoned() -> None:
    """Delete the regions of clients that were killed."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        if is_abandoned(path.name):
            path.unlink(missing_ok=True)


def is_abandoned(name: str) -> bool:
    """Whether no living client uses the region of that name."""
    try:
        file = os.open(FOLDER / name, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        # It belongs to another user.
        return False
    try:
        return lock(file)
    finally:
        os.close(file)
