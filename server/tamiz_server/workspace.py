"""The workspace of one embedded server: its temporary folder and its shared memory, both removed when it ends.

The process that starts a server locks the workspace's folder. When that process is killed, the operating system
releases the lock, and the next process that starts a server removes the abandoned workspace.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tamiz.errors import TritonError, os_reason
from tamiz.locks import open_locked

from .python_environments import remove_stale_python_environments

_PREFIX = "tamiz-triton-"
# Folders that are not locked yet. Only old ones count as abandoned, whose process was killed before it locked them.
_NEW_PREFIX = "tamiz-new-"
_NEW_MAX_AGE_S = 60
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108

# Triton starts the stubs of its Python backend through a shell without quoting their paths.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")
_PLAIN_PARENTS = ("/tmp", "/var/tmp")  # noqa: S108


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

    @property
    def backends(self) -> Path:
        """Where Triton finds its backends."""
        return self.folder / "backends"

    @property
    def repository(self) -> Path:
        """Second path of the model repository, which consists of plain characters; see `link_repository`."""
        return self.folder / "repository"

    def link_repository(self, path: Path) -> None:
        """Give a model repository, whatever its path is, a second path that consists of plain characters.

        Raises:
            TritonError: the link cannot be created.
        """
        try:
            self.repository.symlink_to(path.resolve())
        except OSError as exc:
            raise TritonError(f"cannot start Triton: {self.repository}: {os_reason(exc)}") from exc

    def remove_traces(self) -> None:
        """Remove what a server that was killed leaves outside the folder: shared memory and a folder in /tmp.

        Nothing tells which server created a folder in /tmp: it stays until no running server may have created it.
        """
        for region in _SHARED_MEMORY.glob(f"{self.name}-*"):
            with contextlib.suppress(OSError):
                region.unlink()
        remove_stale_python_environments()

    def remove(self) -> None:
        """Remove the folder and everything else that the server left behind, and release the lock."""
        self.remove_traces()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock_descriptor)


def create_workspace() -> Workspace:
    """Create and lock a workspace, whose path consists of plain characters whatever the temporary directory is called.

    Raises:
        TritonError: the temporary directory cannot be written, or its file system does not support locks.
    """
    try:
        new_folder = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX, dir=_parents()[0]))
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


def _parents() -> list[Path]:
    """Folders that may hold workspaces; new ones go into the first."""
    temporary = Path(tempfile.gettempdir())
    if _PLAIN_PATH.fullmatch(os.fspath(temporary)):
        return [temporary]
    parents = [Path(parent) for parent in _PLAIN_PARENTS if os.access(parent, os.W_OK | os.X_OK)]
    if not parents:
        raise TritonError(
            f"cannot start Triton: the path of the temporary directory {temporary} has characters that Triton does not "
            "accept, and /tmp is not writable; set TMPDIR to a path of letters, digits, '_', '-' and '.'"
        )
    return parents


def remove_abandoned_workspaces() -> None:
    """Remove what processes that were killed left behind: their workspaces, and their servers' folders in /tmp."""
    prefixes = (_PREFIX, _NEW_PREFIX)
    for folder in [found for parent in _parents() for prefix in prefixes for found in parent.glob(f"{prefix}*")]:
        # Another user's folder cannot be opened, and another process may remove this one first.
        with contextlib.suppress(OSError):
            is_new = folder.name.startswith(_NEW_PREFIX)
            if is_new and time.time() - folder.stat().st_mtime < _NEW_MAX_AGE_S:
                continue
            lock_descriptor = open_locked(folder)
            if lock_descriptor is not None:
                Workspace(folder, lock_descriptor).remove()
    remove_stale_python_environments()
