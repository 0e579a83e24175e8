"""The workspace of one embedded server: its temporary folder and its shared memory, both removed when it ends.

The process that starts a server locks the workspace's folder. When that process is killed, the operating system
releases the lock, and the next process that starts a server removes the abandoned workspace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tamiz.errors import TritonError, os_reason
from tamiz.locks import open_locked

_PREFIX = "tamiz-triton-"
# Folders that are not locked yet. Only old ones count as abandoned, whose process was killed before it locked them.
_NEW_PREFIX = "tamiz-new-"
_NEW_MAX_AGE_S = 60
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class Workspace:
    """A locked temporary folder.

    Attributes:
        folder: path of the folder.
        lock_descriptor: descriptor that holds the folder's lock.
    """

    folder: Path
    lock_descriptor: int

    @property
    def name(self) -> str:
        """Unique name of the server; its shared-memory regions are named ``<name>-…``."""
        return self.folder.name

    def remove(self) -> None:
        """Remove the folder and the shared memory that Triton left behind, and release the lock."""
        for region in _SHARED_MEMORY.glob(f"{self.name}-*"):
            with contextlib.suppress(OSError):
                region.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock_descriptor)


def create_workspace() -> Workspace:
    """Create and lock a workspace.

    Raises:
        TritonError: the temporary directory cannot be written, or its file system does not support locks.
    """
    try:
        new_folder = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX))
        lock_descriptor = open_locked(new_folder)
        assert lock_descriptor is not None, "a new folder cannot be locked by another process"
        # Renamed only now: under its final name, an unlocked folder would look abandoned.
        unique_part = new_folder.name.removeprefix(_NEW_PREFIX)
        folder = new_folder.rename(new_folder.with_name(_PREFIX + unique_part))
        return Workspace(folder, lock_descriptor)
    except OSError as exc:
        # Some errors have no path, such as those of a file system without locks.
        path = f"{exc.filename}: " if exc.filename else ""
        raise TritonError(f"cannot start Triton: {path}{os_reason(exc)}") from exc


def remove_abandoned_workspaces() -> None:
    """Remove the workspaces of processes that were killed."""
    temporary = Path(tempfile.gettempdir())
    for folder in [*temporary.glob(f"{_PREFIX}*"), *temporary.glob(f"{_NEW_PREFIX}*")]:
        # Another user's folder cannot be opened, and another process may remove this one first.
        with contextlib.suppress(OSError):
            is_new = folder.name.startswith(_NEW_PREFIX)
            if is_new and time.time() - folder.stat().st_mtime < _NEW_MAX_AGE_S:
                continue
            lock_descriptor = open_locked(folder)
            if lock_descriptor is not None:
                Workspace(folder, lock_descriptor).remove()
