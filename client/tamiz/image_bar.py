"""A progress bar of images on a terminal, with their rate and the remaining time; nothing elsewhere."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .console import make_console

REFRESH_EVERY_S = 0.1


class ImageBar:
    """A progress bar on standard error, as a context manager. It shows nothing if standard error is not a terminal.

    It has no thread that draws it: processes that are forked meanwhile, such as those that load images, would inherit
    a lock that the thread holds.

    Args:
        description: text beside the bar.
        total: number of images; None when it is unknown.
        done: number of images that are finished already.
        keep: whether the bar stays on the terminal when it ends.
    """

    def __init__(self, description: str, total: int | None, *, done: int = 0, keep: bool = False) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} images/s{task.fields[note]},", markup=False),
            TimeRemainingColumn(),
        )
        self._progress = Progress(
            *columns,
            console=make_console(stderr=True),
            auto_refresh=False,
            transient=not keep,
            # Otherwise lines that are printed to standard output would be on standard error.
            redirect_stdout=False,
            disable=not shows_bars(),
        )
        self._task = self._progress.add_task(description, total=total, completed=done, rate=0.0, note="")
        self._done = self._done_before = done
        self._began, self._drawn = time.monotonic(), 0.0

    def advance(self, images: int = 1, note: str = "") -> None:
        """Count finished images.

        Args:
            images: number of images.
            note: text beside the rate.
        """
        if self._progress.disable:
            return
        self._done += images
        now = time.monotonic()
        rate = (self._done - self._done_before) / max(now - self._began, 1e-9)
        total = self._progress.tasks[self._task].total
        # Several processes can repeat an image, so that each has the same number.
        done = self._done if total is None else min(self._done, int(total))
        self._progress.update(self._task, completed=done, rate=rate, note=note)
        if now - self._drawn > REFRESH_EVERY_S or done == total:
            self._drawn = now
            self._progress.refresh()

    def start(self) -> None:
        """Show the bar."""
        self._progress.start()

    def stop(self) -> None:
        """Remove the bar, or leave it as it is if it is kept."""
        self._progress.stop()

    def __enter__(self) -> ImageBar:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def shows_bars() -> bool:
    """Whether standard error is a terminal, on which progress bars are shown."""
    return sys.stderr.isatty()
