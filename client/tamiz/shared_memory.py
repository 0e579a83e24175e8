"""Shared memory: images reach a server on the same machine without going through a connection.

Each request under way has a region of its own, a file in /dev/shm that the server was told of. A region is locked
for as long as its client lives (``flock``, which ends with the process however that ends), so the next client to
start knows what a killed one left behind, and removes it; `Calls` has it removed from the servers too.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import UsageError
from .preprocessing import Pixels

PREFIX = "tamiz-images-"
FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is on Linux


class Region:
    """A piece of shared memory.

    Attributes:
        name: by which servers know it, and of its file.
        size: bytes.
        known_to: URLs of the servers that were told of it.
    """

    def __init__(self, size: int) -> None:
        self.name = f"{PREFIX}{secrets.token_hex(8)}"
        self.size = size
        self.known_to: set[str] = set()
        try:
            # It gets its name when it is locked, so that it never looks like a leftover.
            new = FOLDER / f"tamiz-new-{self.name}"
            self._file = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
                new.rename(FOLDER / self.name)
                # Reserved now: to find out later that there is no memory would end the process (SIGBUS).
                os.posix_fallocate(self._file, 0, size)
                self._memory = mmap.mmap(self._file, size)
            except BaseException:
                (FOLDER / self.name).unlink(missing_ok=True)
                os.close(self._file)
                raise
        except OSError as exc:
            raise UsageError(f"shared_memory: {size:,} bytes in {FOLDER}: {exc.strerror}") from exc

    def write(self, images: Iterable[Pixels]) -> None:
        """Copy images in, one behind the other."""
        end = 0
        for image in images:
            start, end = end, end + image.nbytes
            self._memory[start:end] = image.data.cast("B")

    def disown(self) -> None:
        """After a fork, in the child: leave it to the parent, whose life alone the lock is to tell."""
        self._memory.close()
        os.close(self._file)

    def remove(self) -> None:
        """Give the memory back, as far as no server still has it."""
        self.disown()
        (FOLDER / self.name).unlink(missing_ok=True)


class SharedMemory:
    """The regions of one client."""

    def __init__(self) -> None:
        remove_leftovers()
        self._lock = threading.Lock()
        self._regions: list[Region] = []
        self._free: list[Region] = []

    @property
    def regions(self) -> Sequence[Region]:
        """All regions, in use or not."""
        return tuple(self._regions)

    def lease(self, size: int) -> Region:
        """A region of at least so many bytes that no other request uses; `give_back` ends the lease.

        Raises:
            UsageError: the machine has not so much shared memory.
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
            self._free.append(region)

    def forget(self, url: str) -> None:
        """A server is lost, and with it what it was told."""
        for region in self.regions:
            region.known_to.discard(url)

    def disown(self) -> None:
        """Leave all regions to the parent of a fork."""
        for region in self.regions:
            region.disown()

    def close(self) -> None:
        """Remove all regions."""
        while self._regions:
            self._regions.pop().remove()


def remove_leftovers() -> None:
    """Remove the regions of clients that were killed."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        if is_leftover(path.name):
            path.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """Whether no client lives any more that uses the region of that name."""
    try:
        file = os.open(FOLDER / name, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        # Another user's.
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(file)
