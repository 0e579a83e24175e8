"""Journal: the results of an unfinished bulk job, in a file beside its output.

The first line describes the job and each further line is one result. Lines are only appended, in the order of the
images. After a crash at any moment the complete lines are the finished images; an incomplete last line is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import OutputError, UsageError, os_reason
from ..json_text import to_json
from ..locks import lock
from .inputs import Input
from .results import Record

FLUSH_EVERY_S = 0.1
"""Seconds of work that are lost at most when the process is killed."""

SYNC_EVERY_S = 1.0
"""Seconds of work that are lost at most when the machine fails."""


def journal_path(out: Path) -> Path:
    """Path of the journal of an output file."""
    return out.with_name(f"{out.name}.journal")


class Journal:
    """The journal of one output file, used as a context manager; call `remove` once the output is written.

    Args:
        out: the output file.
        job: what determines the results: the model, the inputs and the settings, as JSON values.
        resume: continue an existing journal of the same job, or start a new one when none exists.
        sync_every_s: seconds between two writes through to the disk.

    Attributes:
        path: path of the journal.
        done: number of results.
        errors: number of results that are errors.

    Raises:
        UsageError: an unfinished job has a journal and ``resume`` is false, the journal belongs to another job, or
            the file is not a journal.
        OutputError: another process is working on this job, or the file cannot be written.
    """

    def __init__(self, out: Path, job: dict[str, Any], *, resume: bool, sync_every_s: float = SYNC_EVERY_S) -> None:
        self.path = journal_path(out)
        self.done = 0
        self.errors = 0
        if not resume and self.path.exists():
            raise UsageError(
                f"{self.path} holds an unfinished job; continue it with --resume, or delete the file to start again"
            )
        try:
            self._file = self.path.open("r+b" if self.path.exists() else "x+b")
            try:
                if not lock(self._file.fileno()):
                    raise OutputError(f"{self.path}: another process is working on this job; wait until it ends")
                self._read(job)
            except BaseException:
                self._file.close()
                raise
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {os_reason(exc)}") from exc
        self._sync_every_s = sync_every_s
        self._flushed = self._synced = time.monotonic()

    def skip_done(self, inputs: Iterator[Input]) -> Iterator[Input]:
        """Advance to the first input that has no result in the journal.

        Raises:
            UsageError: the inputs are not those of the interrupted job.
        """
        for number, record in enumerate(self.records(), 1):
            found = next(inputs, None)
            if found is None or found.name != record["path"]:
                now = found.name if found else "missing"
                raise UsageError(
                    f"{self.path}: the inputs have changed: image {number:,} was {record['path']} and is {now} now; "
                    "restore the inputs, or delete the journal to start again"
                )
        return inputs

    def append(self, record: Record) -> None:
        """Add the result of the next image.

        Raises:
            OutputError: the journal cannot be written, for example because the disk is full.
        """
        now = time.monotonic()
        try:
            self._write(record)
            if now - self._flushed > FLUSH_EVERY_S:
                self._file.flush()
                self._flushed = now
            if now - self._synced > self._sync_every_s:
                os.fsync(self._file.fileno())
                self._synced = now
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {os_reason(exc)}") from exc
        self._count(record)

    def records(self) -> Iterator[Record]:
        """All results, in the order of the images."""
        self._file.flush()
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Delete the journal, because its results are in the output file."""
        self.path.unlink()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        # `append` has reported a journal that cannot be written; lost results are computed again.
        with contextlib.suppress(OSError):
            self._file.close()

    def _read(self, job: dict[str, Any]) -> None:
        """Count the complete results, and cut off an incomplete last line; begin an empty journal."""
        try:
            end = self._read_lines(job)
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise UsageError(f"{self.path}: not a journal; delete the file to start again") from exc
        self._file.seek(end)
        self._file.truncate()
        if end == 0:
            self._write(job)
            self._file.flush()

    def _read_lines(self, job: dict[str, Any]) -> int:
        """Count the complete results; the end of the last complete line, in bytes."""
        first = self._file.readline()
        if not first.endswith(b"\n"):
            return 0
        end = len(first)
        earlier = json.loads(first)
        if earlier != job:
            differing = [
                f"{name} {to_json(earlier.get(name), ensure_ascii=False)}"
                for name in {**earlier, **job}
                if job.get(name) != earlier.get(name)
            ]
            raise UsageError(
                f"{self.path} belongs to another job, with {', '.join(differing)}; delete the file to start again"
            )
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self._count(json.loads(line))
        return end

    def _write(self, document: dict[str, Any]) -> None:
        # ASCII only, because a file name may contain bytes that are not UTF-8.
        self._file.write(to_json(document).encode("ascii") + b"\n")

    def _count(self, record: Record) -> None:
        self.done += 1
        self.errors += record["error"] is not None
