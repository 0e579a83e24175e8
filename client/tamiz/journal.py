"""Journal: the results of a bulk job that is not finished yet, in a file beside its output.

Its first line says what the job is, each further one is a result. Lines are only ever added, in the order of the
images, so after a kill at any moment the whole lines are the images that are done; a line cut off is dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import UsageError
from .results import Record

_FLUSH_EVERY_S = 0.1
"""At most the work of so long is done again when the process is killed."""

_SYNC_EVERY_S = 1.0
"""At most the work of so long is done again when the machine fails."""


def journal_of(out: Path) -> Path:
    """Where the journal of an output file is."""
    return out.with_name(f"{out.name}.journal")


class Journal:
    """The journal of one output file, as a context manager; `remove` ends it when the output is written.

    Args:
        out: the output file.
        job: what decides the results: the model, the inputs and the settings. JSON values.
        resume: go on where a journal of the same job ends; without one, begin.

    Raises:
        UsageError: the journal of an unfinished job is there and ``resume`` is not asked for; it is of another job;
            another process is at it; or the file cannot be written.
    """

    def __init__(self, out: Path, job: dict[str, Any], *, resume: bool) -> None:
        self.path = journal_of(out)
        self.done = 0
        self.errors = 0
        if not resume and self.path.exists():
            raise UsageError(
                f"{self.path} holds an unfinished job; go on with it by --resume, or delete it to begin again"
            )
        try:
            self._file = self.path.open("r+b" if self.path.exists() else "x+b")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._read(job)
            except BaseException:
                self._file.close()
                raise
        except BlockingIOError as exc:
            raise UsageError(f"{self.path}: another process is at this job") from exc
        except OSError as exc:
            raise UsageError(f"{self.path}: {exc.strerror}") from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise UsageError(f"{self.path}: not a journal; delete it to begin again") from exc
        self._flushed = self._synced = time.monotonic()

    def append(self, record: Record) -> None:
        """Add the result of the next image.

        Raises:
            UsageError: the disk is full.
        """
        now = time.monotonic()
        try:
            self._write(record)
            if now - self._flushed > _FLUSH_EVERY_S:
                self._file.flush()
                self._flushed = now
            if now - self._synced > _SYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._synced = now
        except OSError as exc:
            raise UsageError(f"{self.path}: {exc.strerror}") from exc
        self._count(record)

    def records(self) -> Iterator[Record]:
        """All results, in the order of the images."""
        self._file.flush()
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Delete the journal: its results stand in the output."""
        self.path.unlink()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What cannot be written any more was told by `append`, or is done again.
        with contextlib.suppress(OSError):
            self._file.close()

    def _read(self, job: dict[str, Any]) -> None:
        first = self._file.readline()
        end = len(first)
        if not first.endswith(b"\n"):
            # New, or cut off in its first line.
            end = 0
        elif json.loads(first) != job:
            earlier = {name: value for name, value in json.loads(first).items() if job.get(name) != value}
            told = ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in earlier.items())
            raise UsageError(f"{self.path} is of another job, with {told}; delete it to begin again")
        else:
            for line in self._file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                self._count(json.loads(line))
        self._file.seek(end)
        self._file.truncate()
        if not end:
            self._write(job)
            self._file.flush()

    def _write(self, document: dict[str, Any]) -> None:
        # All in ASCII: a file name may hold what is not UTF-8.
        self._file.write(json.dumps(document).encode("ascii") + b"\n")

    def _count(self, record: Record) -> None:
        self.done += 1
        self.errors += record["error"] is not None
