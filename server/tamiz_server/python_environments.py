"""The folders that Triton's Python backend creates, always in /tmp, and removes unless its server is killed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_FOLDERS = Path("/tmp")  # noqa: S108
_PROCESSES = Path("/proc")
_LIBRARY = b"/libtriton_python.so"
_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CLOCK_TOLERANCE_S = 60.0


def remove_stale_python_environments() -> None:
    """Remove the empty folders of this user's servers that were killed.

    A folder is kept if any running process of this user that has the Python backend loaded, whoever started it, is old
    enough to have created the folder. Servers in other containers that share /tmp are not seen; one of them misses its
    empty folder only if it later loads a model that brings its own Python environment.
    """
    folders = list(_FOLDERS.glob("python_env_*"))
    oldest_s = max(_backend_ages(), default=None) if folders else None
    for folder in folders:
        # Another process may remove it first, or use it.
        with contextlib.suppress(OSError):
            stat = folder.lstat()
            is_stale = oldest_s is None or time.time() - stat.st_mtime > oldest_s + _CLOCK_TOLERANCE_S
            if stat.st_uid == os.geteuid() and is_stale:
                folder.rmdir()


def _backend_ages() -> Iterator[float]:
    """Seconds since the start of each process of this user that has the Python backend loaded."""
    for process in _PROCESSES.glob("[0-9]*"):
        # Other users' processes cannot be read, and processes end.
        with contextlib.suppress(OSError):
            if _LIBRARY in (process / "maps").read_bytes():
                started = int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[19])
                yield time.clock_gettime(time.CLOCK_BOOTTIME) - started / _CLOCK_TICKS_PER_S
