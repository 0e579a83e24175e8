"""Progress of a bulk job: a progress bar on a terminal, otherwise a line every ten seconds, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..console import make_console

LINE_EVERY_S = 10.0


class JobProgress:
    """Counts the images of a job and shows the progress, as a context manager.

    Args:
        name: name shown beside the progress bar.
        count_total: function that counts the images of the whole job; None when they cannot be counted. It is called
            only for a progress bar, because counting can take time.
        done: number of images that an interrupted run of the job has finished.
        errors: number of errors among them.

    Attributes:
        images: number of finished images, those of an interrupted run included.
        errors: number of unreadable images among them.
    """

    def __init__(self, name: str, count_total: Callable[[], int | None], *, done: int = 0, errors: int = 0) -> None:
        self.images = done
        self.errors = errors
        self._done_before = done
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} images/s, {task.fields[errors]:,} errors,"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=make_console(stderr=True), disable=not sys.stderr.isatty())
        total = None if self._bar.disable else count_total()
        self._task = self._bar.add_task(name, total=total, completed=done, rate=0.0, errors=errors)
        self._began = self._printed = time.monotonic()

    @property
    def images_per_s(self) -> float:
        """Throughput of this run, without the images of an interrupted run."""
        return (self.images - self._done_before) / max(time.monotonic() - self._began, 1e-9)

    def count(self, *, error: bool) -> None:
        """Count one more finished image."""
        self.images += 1
        self.errors += error
        if not self._bar.disable:
            self._bar.update(self._task, completed=self.images, rate=self.images_per_s, errors=self.errors)
        elif time.monotonic() - self._printed > LINE_EVERY_S:
            self._printed = time.monotonic()
            line = f"{self.images:,} images, {self.images_per_s:,.0f} images/s, {self.errors:,} errors"
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> JobProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self._bar.stop()
