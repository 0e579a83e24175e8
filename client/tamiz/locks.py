"""File locks (``flock``): one process at a time; the operating system releases them when the process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder until its descriptor is closed.

    Args:
        descriptor: descriptor of the open file or folder.
        wait: whether to wait while another process holds the lock.

    Returns:
        true when the lock is held; False when another process holds it and ``wait`` is false.

    Raises:
        OSError: the file system does not support locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_locked(path: Path, *, wait: bool = False) -> int | None:
    """Open a file or folder for reading and lock it; ``os.close`` of the descriptor releases the lock.

    Args:
        path: the file or folder.
        wait: whether to wait while another process holds the lock.

    Returns:
        the descriptor; None when another process holds the lock and ``wait`` is false.

    Raises:
        OSError: the file cannot be opened, or the file system does not support locks.
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
