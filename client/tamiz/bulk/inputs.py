"""Inputs: the images that a command line names by files, folders, patterns, tar files and lists.

The order is the same in each run, so that an interrupted job can be resumed. Only the file names of one folder, or of
one pattern, are held in memory, because they are sorted.
"""

from __future__ import annotations

import csv
import glob
import itertools
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import InvalidImageError, UsageError, os_reason
from ..image_header import IMAGE_SUFFIXES, MAX_FILE_BYTES
from ..preprocessing import ImageSource

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Input(NamedTuple):
    """One image to classify.

    Attributes:
        name: path of the image; for a member of a tar file, the path of the tar file followed by the member's path.
        source: the path, or the bytes of the tar member. When a tar file, a list or a folder turns out to be
            unreadable, the error with the reason; its remaining images are missing and the next input follows.
    """

    name: str
    source: ImageSource | InvalidImageError


def find_inputs(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Input]:
    """Find the images that some paths stand for.

    Args:
        paths: image files; folders, which are searched for image files; patterns (``scans/**/*.jpg``); tar files,
            compressed or not, whose image members are read; lists: a ``.csv`` file with a column ``path``, or a
            ``.txt`` file with one path on each line, relative to the folder of the list.

    Raises:
        UsageError: a path does not exist, there are no images, or the first input is unreadable. It is raised by the
            call, before any input is yielded.
    """
    names = [os.fspath(path) for path in paths]
    readers = [_reader(name) for name in names]
    inputs = (found for read in readers for found in read())
    if (first := next(inputs, None)) is None:
        raise UsageError(f"no images in {', '.join(names)}; give image files, or folders that contain image files")
    if isinstance(first.source, InvalidImageError):
        raise UsageError(str(first.source))
    return itertools.chain([first], inputs)


def count_inputs(paths: Iterable[str | os.PathLike[str]]) -> int | None:
    """Count the inputs that `find_inputs` yields; None with a tar file, which would have to be read to count them."""
    names = [os.fspath(path) for path in paths]
    return None if any(map(_is_tar, names)) else sum(1 for _ in find_inputs(names))


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Find the image files that some paths stand for, in the order of `find_inputs`.

    Raises:
        UsageError: a path does not exist or is a tar file, a list or a folder is unreadable, or there are no images.
    """
    names = [os.fspath(path) for path in paths]
    for name in filter(_is_tar, names):
        raise UsageError(f"{name}: tar files are not supported here; unpack it first, or use `tamiz classify`")
    images = []
    for name, source in find_inputs(names):
        if isinstance(source, InvalidImageError):
            raise UsageError(str(source))
        images.append(Path(name))
    return images


def _reader(path: str) -> Callable[[], Iterator[Input]]:
    """The function that reads the inputs of one path."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as exc:
        if not glob.has_magic(path):
            raise UsageError(f"{path}: no such file or folder") from exc
        if next(glob.iglob(path, recursive=True), None) is None:
            raise UsageError(f"{path}: no file matches this pattern") from exc
        return lambda: _matches(path)
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path}: {os_reason(exc)}") from exc
    if stat.S_ISDIR(mode):
        return lambda: _folder_images(path)
    if _is_tar(path):
        return lambda: _tar_images(path)
    if path.lower().endswith((".csv", ".txt")):
        return lambda: _listed_images(path)
    return lambda: iter([Input(path, path)])


def _matches(pattern: str) -> Iterator[Input]:
    """The image files that match a pattern, sorted by path."""
    for name in sorted(glob.iglob(pattern, recursive=True)):
        if _is_image(name):
            yield Input(name, name)


def _folder_images(folder: str, parents: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Input]:
    """All image files below a folder, those of each folder sorted by name."""
    try:
        status = os.stat(folder)
        if (identity := (status.st_dev, status.st_ino)) in parents:
            # A symbolic link to a folder that contains it.
            return
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as exc:
        yield _unreadable(folder, os_reason(exc))
        return
    for entry in ordered:
        if _is_folder(entry):
            yield from _folder_images(entry.path, parents | {identity})
        elif _is_image(entry.name):
            yield Input(entry.path, entry.path)


def _tar_images(path: str) -> Iterator[Input]:
    """The image members of a tar file, in the order of the file."""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and _is_image(member.name) else None
                if file is not None:
                    # One byte over the limit, so that the decoder rejects a larger member as too large.
                    yield Input(f"{path}/{member.name}", file.read(MAX_FILE_BYTES + 1))
                # tarfile keeps a record of every member that it has read, which grows without bound.
                archive.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as exc:
        yield _unreadable(path, f"unreadable tar file: {exc}")


def _listed_images(path: str) -> Iterator[Input]:
    """The images that a ``.csv`` or ``.txt`` list names, in the order of the list."""
    folder = os.path.dirname(path)
    try:
        # Spreadsheets write a byte order mark, which "utf-8-sig" accepts and does not require.
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.lower().endswith(".txt"):
                names: Iterator[str] = (line.rstrip("\r\n") for line in file)
            else:
                rows = csv.DictReader(file, strict=True)
                if "path" not in (rows.fieldnames or ()):
                    yield _unreadable(path, f"no column 'path' in the first line: {','.join(rows.fieldnames or ())!r}")
                    return
                names = (row["path"] or "" for row in rows)
            for name in filter(None, names):
                image = os.path.join(folder, name)
                yield Input(image, image)
    except OSError as exc:
        yield _unreadable(path, os_reason(exc))
    except (UnicodeDecodeError, csv.Error) as exc:
        yield _unreadable(path, str(exc))


def _unreadable(path: str, reason: str) -> Input:
    return Input(path, InvalidImageError(f"{path}: {reason}"))


def _is_tar(path: str) -> bool:
    return path.lower().endswith(_TAR_SUFFIXES)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A symbolic link to itself is neither a folder nor a readable image.
        return False
