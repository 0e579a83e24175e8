"""Files that are written completely or not at all, and their checksums."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError, os_reason
from .locks import lock


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Give a temporary file in the same folder to write to, and rename it to ``path`` when the block ends.

    When the block raises, or the process is killed inside it, ``path`` keeps its earlier content, or stays absent.
    The temporary file of a killed process is overwritten by the next writer.

    Args:
        path: the file to write.

    Yields:
        The path of the temporary file, which is empty.

    Raises:
        OutputError: the file cannot be written, or another process is writing it.
    """
    with _temporary_file(path) as temporary:
        mode = temporary.stat().st_mode
        yield temporary
        # safetensors replaces the file by one that only its owner can read.
        temporary.chmod(mode)
        # The content reaches the disk before the new name does, and the new name before the caller deletes
        # anything that the file replaces.
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all.

    Args:
        path: the file to write.
        content: text, which is written as UTF-8, or bytes.

    Raises:
        OutputError: the file cannot be written, or another process is writing it.
    """
    with staged(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def check_writable(path: Path) -> None:
    """Check that a file can be written, before the work that produces its content starts.

    Raises:
        OutputError: the file cannot be written, or another process is writing it.
    """
    with _temporary_file(path) as temporary:
        temporary.unlink()


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, have reached the disk and survive a power loss.

    Raises:
        OSError: the file or folder cannot be opened, or the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """An empty, locked file beside ``path``, which is deleted when the block raises."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with temporary.open("ab") as file:
            # Another writer may have renamed its finished file between our opening and our locking it. Then we hold
            # the lock of the finished file, which must not be truncated.
            if not lock(file.fileno()) or not _is_same_file(file.fileno(), temporary):
                raise OutputError(f"{path}: another process is writing it; wait until that process ends")
            try:
                file.truncate(0)
                yield temporary
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {os_reason(exc)}") from exc


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
