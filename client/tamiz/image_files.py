"""Image files of a folder: which files are images by their names, and why each other file is left out.

`tamiz classify`, training and every other command that searches a folder use this one walk, so that they find the same
images.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import os_reason
from .image_header import IMAGE_SUFFIXES

HIDDEN = "hidden files and folders"
SYSTEM = "folders of operating systems"
LOOP = "links to a folder that contains them"

SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""Names, in lower case, of folders that operating systems, storage devices and archivers add: they hold copies and
thumbnails."""

MAX_REASONS = 6
"""The number of reasons that a summary lists."""


class Found(NamedTuple):
    """One file of a folder, or a folder below it that is not searched.

    Attributes:
        path: the path, which begins with that of the searched folder.
        left_out: why it is left out, in the plural: ``.txt files``; empty for an image.
        error: why the folder cannot be read; otherwise empty.
    """

    path: str
    left_out: str = ""
    error: str = ""


def walk(folder: str | os.PathLike[str]) -> Iterator[Found]:
    """Find all files below a folder, those of each folder sorted by name.

    Links are followed, except a link to a folder that contains it. Hidden files, hidden folders and `SYSTEM_FOLDERS`
    are left out, and so is every file whose name does not end like that of an image.

    Args:
        folder: the folder; it is searched whatever its own name is.

    Yields:
        each file. A folder that cannot be read, or is left out, is yielded itself, and none of its files.
    """
    path = os.fspath(folder)
    try:
        containing = frozenset(map(_identity, Path(path).resolve().parents))
    except (OSError, RuntimeError):
        # A folder that does not exist, or a link to itself; `_walk` has the reason.
        containing = frozenset()
    return _walk(path, containing)


def why_left_out(path: str) -> str:
    """Why a file is left out because of its relative path, as the path in an archive is; empty for an image."""
    *folders, name = [part for part in path.split("/") if part not in ("", ".", "..")] or [""]
    return next(filter(None, map(why_folder_left_out, folders)), "") or _why_file_left_out(name)


def why_folder_left_out(name: str) -> str:
    """Why a folder of this name is not searched when it is found in another one; empty if it is searched."""
    if name.startswith("."):
        return HIDDEN
    return SYSTEM if name.lower() in SYSTEM_FOLDERS else ""


def summarise(left_out: Mapping[str, int]) -> str:
    """One line about the files that were left out, such as ``left out: .txt files (3), hidden files … (2)``.

    Args:
        left_out: the number of files by reason; the text is empty if there are none.
    """
    if not left_out:
        return ""
    reasons = [f"{reason} ({count:,})" for reason, count in Counter(left_out).most_common()]
    if len(reasons) > MAX_REASONS:
        others = sum(count for _, count in Counter(left_out).most_common()[MAX_REASONS - 1 :])
        reasons = [*reasons[: MAX_REASONS - 1], f"other files ({others:,})"]
    return f"left out: {', '.join(reasons)}"


def _walk(folder: str, containing: frozenset[tuple[int, int]]) -> Iterator[Found]:
    pending = [(Found(folder), True, containing)]
    while pending:
        found, is_folder, containing = pending.pop()
        if not is_folder:
            yield found
            continue
        try:
            identity = _identity(found.path)
            if identity in containing:
                yield found._replace(left_out=LOOP)
                continue
            with os.scandir(found.path) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as exc:
            yield found._replace(error=os_reason(exc))
            continue
        for entry in ordered:
            inner = _is_folder(entry)
            reason = why_folder_left_out(entry.name) if inner else _why_file_left_out(entry.name)
            pending.append((Found(entry.path, reason), inner and not reason, containing | {identity}))


def _identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A symbolic link to itself is neither a folder nor a readable image.
        return False


def _why_file_left_out(name: str) -> str:
    if name.startswith("."):
        return HIDDEN
    _, dot, ending = name.rpartition(".")
    suffix = (dot + ending).lower()
    if suffix in IMAGE_SUFFIXES:
        return ""
    # Bounded, because each reason is counted.
    return f"{suffix} files" if re.fullmatch(r"\.\w{1,8}", suffix) else "files with other names"
