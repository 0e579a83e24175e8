"""The workspace of one embedded server: its temporary folder and its shared memory, both removed when it ends.

The process that starts a server locks the workspace's folder. When that process is killed, the operating system
releases the lock, and the next process that starts a server removes the abandoned workspace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tamiz.errors import TritonError, os_reason
from tamiz.locks import open_locked

_PREFIX = "tamiz-triton-"
_NEW_PREFIX = "tamiz-new-"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class Workspace:
    """A locked temporary folder.

    Attributes:
        folder: path of the folder.
        lock: descriptor that holds the folder's lock.
    """

    folder: Path
    lock: int

    @property
    def name(self) -> str:
        """Unique name of the server; the names of its shared memory regions begin with it and a hyphen."""
        return self.folder.name

    def remove(self) -> None:
        """Remove the folder and the shared memory that Triton left behind, and release the lock."""
        for region in _SHARED_MEMORY.glob(f"{self.name}-*"):
            with contextlib.suppress(OSError):
                region.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


def create_workspace() -> Workspace:
    """Create and lock a workspace.

    Raises:
        TritonError: the folder for temporary files cannot be written, or its file system has no locks.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX))
        lock = open_locked(folder)
        assert lock is not None, "no other process knows this folder"
        # It gets its final name only now: without a lock it would look abandoned.
        return Workspace(folder.rename(folder.with_name(_PREFIX + folder.name.removeprefix(_NEW_PREFIX))), lock)
    except OSError as exc:
        raise TritonError(f"cannot start Triton: {exc.filename}: {os_reason(exc)}") from exc


def remove_abandoned_workspaces() -> None:
    """Remove the workspaces of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Another user's folder cannot be opened, and another process may remove this one first.
        with contextlib.suppress(OSError):
            lock = open_locked(folder)
            if lock is not None:
                Workspace(folder, lock).remove()
