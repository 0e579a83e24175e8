"""Inputs: the images that a command line names by files, folders, patterns, tar files and lists.

The order is the same in each run, so that an interrupted job can be resumed. Only the file names of one folder, or of
one pattern, are held in memory, because they are sorted.
"""

from __future__ import annotations

import csv
import fnmatch
import glob
import itertools
import lzma
import os
import stat
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InvalidImageError, UsageError, os_reason
from ..image_files import Found, summarise, walk, why_left_out
from ..image_header import MAX_FILE_BYTES
from ..path_text import text_to_path
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


def find_inputs(paths: Iterable[str | os.PathLike[str]], left_out: Counter[str] | None = None) -> Iterator[Input]:
    """Find the images that some paths stand for.

    Args:
        paths: image files; folders, which are searched for image files (see `tamiz.image_files.walk`); patterns
            (``scans/**/*.jpg``); tar files, compressed or not, whose image members are read; lists: a ``.csv`` file
            with a column ``path``, or a ``.txt`` file with one path on each line, relative to the folder of the list.
        left_out: counts the files of folders, patterns and tar files that are left out, by reason, as far as the
            inputs have been read.

    Raises:
        UsageError: a path does not exist, there are no images, or the first input is unreadable. It is raised by the
            call, before any input is yielded.
    """
    names = [os.fspath(path) for path in paths]
    counts = Counter[str]() if left_out is None else left_out
    readers = [_reader(name, counts) for name in names]
    inputs = (found for read in readers for found in read())
    if (first := next(inputs, None)) is None:
        hint = summarise(counts) or "give image files, or folders that contain image files"
        raise UsageError(f"no images in {', '.join(names)}; {hint}")
    if isinstance(first.source, InvalidImageError):
        raise UsageError(str(first.source))
    return itertools.chain([first], inputs)


def count_inputs(paths: Iterable[str | os.PathLike[str]]) -> int | None:
    """Count the inputs that `find_inputs` yields; None with a tar file, which would have to be read to count them."""
    names = [os.fspath(path) for path in paths]
    return None if any(map(is_tar, names)) else sum(1 for _ in find_inputs(names))


def find_images(paths: Iterable[str | os.PathLike[str]], left_out: Counter[str] | None = None) -> list[Path]:
    """Find the image files that some paths stand for, in the order of `find_inputs`.

    Raises:
        UsageError: a path does not exist or is a tar file, a list or a folder is unreadable, or there are no images.
    """
    names = [os.fspath(path) for path in paths]
    for name in filter(is_tar, names):
        raise UsageError(f"{name}: tar files are not supported here; unpack it first, or use `tamiz classify`")
    images = []
    for name, source in find_inputs(names, left_out):
        if isinstance(source, InvalidImageError):
            raise UsageError(str(source))
        images.append(Path(name))
    return images


def _reader(path: str, left_out: Counter[str]) -> Callable[[], Iterator[Input]]:
    """The function that reads the inputs of one path."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as exc:
        if not glob.has_magic(path):
            raise UsageError(f"{path}: no such file or folder") from exc
        ignored = Counter[str]()
        if next(_matches(path, ignored), None) is None:
            hint = f"; {summarise(ignored)}" if ignored else ""
            raise UsageError(f"{path}: no image matches this pattern{hint}") from exc
        return lambda: _matches(path, left_out)
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path}: {os_reason(exc)}") from exc
    if stat.S_ISDIR(mode):
        return lambda: _folder_images(path, left_out)
    if is_tar(path):
        return lambda: _tar_images(path, left_out)
    if path.lower().endswith((".csv", ".txt")):
        return lambda: _listed_images(path)
    return lambda: iter([Input(path, path)])


def _matches(pattern: str, left_out: Counter[str]) -> Iterator[Input]:
    """The images that match a pattern, and those of the folders that match it; ``**`` is any number of folders."""
    parts = pattern.split("/")
    if "**" not in parts:
        for name in sorted(glob.iglob(pattern)):
            if os.path.isdir(name):
                yield from _folder_images(name, left_out)
            elif reason := why_left_out(os.path.basename(name)):
                left_out[reason] += 1
            else:
                yield Input(name, name)
        return
    # Not by glob, which would follow a link to a folder that contains it again and again.
    start = parts.index("**")
    before = "".join(f"{part}/" for part in parts[:start])
    for folder in sorted(glob.iglob(before)) if before else [""]:
        for found in walk(folder or os.curdir):
            path = found.path if folder else found.path.removeprefix("./")
            if found.error or _fits(path[len(folder) :].split("/"), parts[start:]):
                yield from _to_inputs(found._replace(path=path), left_out)


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match the parts of a pattern."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(path[start:], pattern[1:]) for start in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


def _folder_images(folder: str, left_out: Counter[str]) -> Iterator[Input]:
    """All image files below a folder."""
    for found in walk(folder):
        yield from _to_inputs(found, left_out)


def _to_inputs(found: Found, left_out: Counter[str]) -> Iterator[Input]:
    if found.left_out:
        left_out[found.left_out] += 1
    else:
        yield _unreadable(found.path, found.error) if found.error else Input(found.path, found.path)


def _tar_images(path: str, left_out: Counter[str]) -> Iterator[Input]:
    """The image members of a tar file, in the order of the file."""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                reason = why_left_out(member.name) or ("" if member.isfile() else "links and devices in tar files")
                file = None if reason else archive.extractfile(member)
                if file is None:
                    # A folder is no file that is missing from the results.
                    left_out.update([reason] * (not member.isdir()))
                else:
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
                rows = csv.DictReader(file, strict=True, skipinitialspace=True)
                if "path" not in (rows.fieldnames or ()):
                    yield _unreadable(path, f"no column 'path' in the first line: {','.join(rows.fieldnames or ())!r}")
                    return
                names = (row["path"] or "" for row in rows)
            for name in filter(None, names):
                image = os.path.join(folder, text_to_path(name))
                yield Input(image, image)
    except OSError as exc:
        yield _unreadable(path, os_reason(exc))
    except (UnicodeDecodeError, csv.Error) as exc:
        yield _unreadable(path, str(exc))


def _unreadable(path: str, reason: str) -> Input:
    return Input(path, InvalidImageError(f"{path}: {reason}"))


def is_tar(path: str) -> bool:
    """Whether a path is that of a tar file, by its name."""
    return path.lower().endswith(_TAR_SUFFIXES)
