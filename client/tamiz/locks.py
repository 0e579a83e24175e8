"""File locks: one process at a time, released by the operating system however the process ends (``flock``)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder until its descriptor is closed.

    Args:
        descriptor: of the open file.
        wait: wait until the lock is free.

    Returns:
        False when another process holds the lock and ``wait`` is false.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_locked(path: Path, *, wait: bool = False) -> int | None:
    """Open a file or a folder for reading and lock it; ``os.close`` of the descriptor releases the lock.

    Returns:
        the descriptor; None when another process holds the lock and ``wait`` is false.

    Raises:
        OSError: the file cannot be opened, or the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if lock(descriptor, wait=wait):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
