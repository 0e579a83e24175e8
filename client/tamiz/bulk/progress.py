"""Progress of a bulk job: a progress bar on a terminal, otherwise a line every ten seconds, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ..image_bar import ImageBar, shows_bars

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
        # Asked once, because it is a system call.
        self._shows_bar = shows_bars()
        self._bar = ImageBar(name, count_total() if self._shows_bar else None, done=done, keep=True)
        self._began = self._printed = time.monotonic()

    @property
    def images_per_s(self) -> float:
        """Throughput of this run, without the images of an interrupted run."""
        return (self.images - self._done_before) / max(time.monotonic() - self._began, 1e-9)

    def count(self, *, error: bool) -> None:
        """Count one more finished image."""
        self.images += 1
        self.errors += error
        if self._shows_bar:
            self._bar.advance(note=f", {self.errors:,} errors")
        elif time.monotonic() - self._printed > LINE_EVERY_S:
            self._printed = time.monotonic()
            line = f"{self.images:,} images, {self.images_per_s:,.0f} images/s, {self.errors:,} errors"
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> JobProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self._bar.stop()
