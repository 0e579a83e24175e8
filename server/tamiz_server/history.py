"""The history of a model: who published, promoted, rolled out and rolled back which version, when and why.

It is ``history.jsonl`` beside the model's configuration, with one line for each change, written with the change while
the repository is locked, and removed if the change is undone. A line that a killed process left unfinished is ignored,
and a promotion that it could not record is recorded by the next change. Triton ignores the file.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tamiz.arguments import check_type
from tamiz.errors import RepositoryError, os_reason, shorten
from tamiz.json_text import to_json

from .staging import replace_file

HISTORY_FILE = "history.jsonl"

_GO_LIVE = frozenset({"promote", "rollback", "automatic rollback"})
"""The changes after which the version ``after`` is the live one."""

_MAX_REASON = 1_000
"""The number of characters of a reason that is kept."""


@dataclass(frozen=True)
class HistoryEntry:
    """One change of a model.

    Attributes:
        time: when it took effect, ISO 8601 in UTC.
        who: name of the user who ran the command, or of the program.
        what: ``publish``, ``promote``, ``rollback``, ``automatic rollback``, ``canary``, ``shadow``, ``canary and
            shadow`` or ``prune``.
        before: the version that was live before, or the candidate that a rollback took out of service; None if there
            was none.
        after: the version that the change is about: published, rolled out, removed, or live from then on.
        why: the reason that was given; empty if none was.
        details: more about the change, such as the share of a canary.
    """

    time: str
    who: str
    what: str
    before: int | None
    after: int | None
    why: str = ""
    details: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry as a line of the file holds it."""
        document = {
            "time": self.time,
            "who": self.who,
            "what": self.what,
            "from": self.before,
            "to": self.after,
            "why": self.why,
        }
        return document | {"details": dict(self.details)} if self.details else document


def make_entry(
    what: str,
    before: int | None,
    after: int | None,
    why: str = "",
    details: Mapping[str, Any] | None = None,
) -> HistoryEntry:
    """Make the entry of a change that takes effect now, by the user of this process; see `HistoryEntry`."""
    return HistoryEntry(_now(), _user(), what, before, after, shorten(why, _MAX_REASON), details)


def append_entries(model_folder: Path, entries: Sequence[HistoryEntry], promotions: Sequence[int] = ()) -> None:
    """Append entries, while the repository is locked; all of them or none.

    Args:
        model_folder: the folder of the model.
        entries: the entries of a change.
        promotions: the versions in the order in which they went live before the change. A promotion among them that
            the history does not have is appended first: the process that made it was killed before it could.

    Raises:
        RepositoryError: the file cannot be written.
    """
    missing = _missing_promotion(read_history(model_folder), promotions)
    lines = [_line(entry) for entry in (*missing, *entries)]
    path = model_folder / HISTORY_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            unfinished = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            content = b"\n" * unfinished + b"".join(lines)
            if os.write(descriptor, content) != len(content):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise RepositoryError(f"{path} cannot be written: {os_reason(exc)}") from exc


def remove_entry(model_folder: Path, entry: HistoryEntry) -> None:
    """Remove the entry of a change that was undone, while the repository is locked.

    Raises:
        OSError: the file cannot be written.
    """
    path = model_folder / HISTORY_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    replace_file(path, b"".join(line for line in lines if line != _line(entry)))


def _missing_promotion(entries: Sequence[HistoryEntry], promotions: Sequence[int]) -> list[HistoryEntry]:
    if not promotions:
        return []
    live = (entry.after for entry in reversed(entries) if entry.what in _GO_LIVE and entry.after is not None)
    known = next(live, promotions[0])
    if known == promotions[-1]:
        return []
    why = "recorded by the next change: the process that made this one was killed before it could"
    return [HistoryEntry(_now(), "unknown", "promote", known, promotions[-1], why)]


def _line(entry: HistoryEntry) -> bytes:
    return to_json(entry.to_dict()).encode() + b"\n"


def check_reason(reason: object) -> None:
    """Check a reason: any text.

    Raises:
        UsageError: it is something else.
    """
    check_type("reason", reason, str, "the reason as text")


def read_history(model_folder: Path) -> list[HistoryEntry]:
    """Read the history of a model, oldest change first; empty if it has none.

    Raises:
        RepositoryError: the file cannot be read.
    """
    path = model_folder / HISTORY_FILE
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as exc:
        raise RepositoryError(f"{path} cannot be read: {os_reason(exc)}") from exc
    return [entry for line in lines if (entry := _parse(line)) is not None]


def _parse(line: bytes) -> HistoryEntry | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    entry = HistoryEntry(
        document.get("time", 0),
        document.get("who", 0),
        document.get("what", 0),
        document.get("from"),
        document.get("to"),
        document.get("why", ""),
        document.get("details"),
    )
    texts, versions = (entry.time, entry.who, entry.what, entry.why), (entry.before, entry.after)
    has_its_types = (
        all(isinstance(text, str) for text in texts)
        and all(version is None or isinstance(version, int) for version in versions)
        and (entry.details is None or isinstance(entry.details, dict))
    )
    return entry if has_its_types else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"uid {os.getuid()}"
