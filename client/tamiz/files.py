"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A file beside another to write to, which takes that one's place at the end of the block.

    Where the block fails, or the process is killed in it, the file stays what it was, or absent. What a killed process
    left beside it is overwritten by the next.

    Raises:
        UsageError: the file cannot be written, or another process is writing it.
    """
    with _beside(path) as part:
        yield part
        # On the disk before the name, and the name before anything that it makes needless is deleted.
        _sync(part)
        part.replace(path)
        _sync(path.parent)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8.

    Raises:
        UsageError: the file cannot be written, or another process is writing it.
    """
    with staged(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work that it is to hold.

    Raises:
        UsageError: the file cannot be written, or another process is writing it.
    """
    with _beside(path) as part:
        part.unlink()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    part = path.with_name(f".{path.name}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                # It took the other's place between the two lines above, and must not be emptied there.
                raise BlockingIOError
            try:
                file.truncate(0)
                yield part
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except BlockingIOError as exc:
        raise UsageError(f"{path}: another process is writing it") from exc
    except OSError as exc:
        raise UsageError(f"{path}: cannot be written: {exc.strerror or exc}") from exc


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
