"""Inputs: the images that a command names, by files, folders, patterns, tar files and lists, one after another.

The order is the same each time, so an interrupted job can go on where it was. Nothing is held in memory but the names
of one folder, or those that a pattern stands for, which are sorted.
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

from .errors import InvalidImageError, UsageError
from .image_header import MAX_FILE_BYTES
from .preprocessing import SUFFIXES, ImageSource


class Input(NamedTuple):
    """One image to classify.

    Attributes:
        name: a path; for a member of a tar file, the path of the tar file followed by the member's.
        source: the path, or the member's bytes; or why there is none, where a tar file, a list or a folder turns out
            to be broken. What it would have given else is not there; the job goes on behind it.
    """

    name: str
    source: ImageSource | InvalidImageError


def find_inputs(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Input]:
    """The images behind some paths.

    Args:
        paths: of image files; folders, searched for image files; patterns (``scans/**/*.jpg``); tar files, compressed
            or not, whose image members are read; lists: a ``.csv`` with a column ``path``, or a ``.txt`` with a path
            on each line, relative to the list's folder.

    Raises:
        UsageError: a path is not there, there are no images, or the first of them is a fault; before anything is
            yielded.
    """
    named = [os.fspath(path) for path in paths]
    readers = [_reader(path) for path in named]
    images = (image for read in readers for image in read())
    if (first := next(images, None)) is None:
        raise UsageError(f"no images in {', '.join(named)}; name image files or folders that hold some")
    if isinstance(first.source, InvalidImageError):
        raise UsageError(str(first.source))
    return itertools.chain([first], images)


def count_inputs(paths: Iterable[str | os.PathLike[str]]) -> int | None:
    """How many images `find_inputs` will give; None where a tar file is among them, which must be read for that."""
    named = [os.fspath(path) for path in paths]
    return None if any(path.lower().endswith(_TARS) for path in named) else sum(1 for _ in find_inputs(named))


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files behind some paths, as `find_inputs` finds them.

    Raises:
        UsageError: a path is not there, it is a tar file, a list or a folder is broken, or there are no images.
    """
    named = [os.fspath(path) for path in paths]
    for path in named:
        if path.lower().endswith(_TARS):
            raise UsageError(f"{path}: a tar file; unpack it first, or give it to `tamiz classify`")
    images = []
    for name, source in find_inputs(named):
        if isinstance(source, InvalidImageError):
            raise UsageError(str(source))
        images.append(Path(name))
    return images


def _reader(path: str) -> Callable[[], Iterator[Input]]:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as exc:
        if not isinstance(exc, FileNotFoundError):
            raise UsageError(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
        if not glob.has_magic(path):
            raise UsageError(f"{path}: no such file or folder") from exc
        if next(glob.iglob(path, recursive=True), None) is None:
            raise UsageError(f"{path}: nothing is called like that") from exc
        return lambda: (Input(name, name) for name in sorted(glob.iglob(path, recursive=True)) if _is_image(name))
    lower = path.lower()
    if stat.S_ISDIR(mode):
        return lambda: _files(path)
    if lower.endswith(_TARS):
        return lambda: _members(path)
    if lower.endswith((".csv", ".txt")):
        return lambda: _listed(path)
    return lambda: iter([Input(path, path)])


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself: no folder, and no image that could be read.
        return False


def _fault(path: str, reason: object) -> Input:
    return Input(path, InvalidImageError(f"{path}: {reason}"))


def _files(folder: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Input]:
    """All image files below a folder, each folder's in the order of their names."""
    try:
        status = os.stat(folder)
        if (here := (status.st_dev, status.st_ino)) in above:
            # A link to a folder that it is in.
            return
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as exc:
        yield _fault(folder, exc.strerror)
        return
    for entry in ordered:
        if _is_folder(entry):
            yield from _files(entry.path, above | {here})
        elif _is_image(entry.name):
            yield Input(entry.path, entry.path)


def _members(path: str) -> Iterator[Input]:
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and _is_image(member.name) else None
                if file is not None:
                    # One byte more than is allowed, so that a larger one is told as too large.
                    yield Input(f"{path}/{member.name}", file.read(MAX_FILE_BYTES + 1))
                # The library would keep all that it has read.
                archive.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as exc:
        yield _fault(path, f"a broken tar file: {exc}")


def _listed(path: str) -> Iterator[Input]:
    folder = os.path.dirname(path)
    try:
        # With or without the byte order mark that spreadsheets write.
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.lower().endswith(".txt"):
                names: Iterator[str] = (line.rstrip("\r\n") for line in file)
            else:
                rows = csv.DictReader(file, strict=True)
                if "path" not in (rows.fieldnames or ()):
                    yield _fault(path, f"no column path in its first line, {','.join(rows.fieldnames or ())!r}")
                    return
                names = (row["path"] or "" for row in rows)
            for name in filter(None, names):
                image = os.path.join(folder, name)
                yield Input(image, image)
    except OSError as exc:
        yield _fault(path, exc.strerror)
    except (UnicodeDecodeError, csv.Error) as exc:
        yield _fault(path, exc)


_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
