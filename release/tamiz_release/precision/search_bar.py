"""The progress bar of a search: its time budget, with a line of text for each step above it."""

from __future__ import annotations

from collections.abc import Callable

from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.progress_bar import ProgressBar

from tamiz.console import make_console
from tamiz.image_bar import shows_bars


class SearchBar:
    """Shows on a terminal how much of the time budget has passed.

    Args:
        description: text beside the bar.
        budget_s: time budget in seconds.
        on_progress: called with each line of text.
    """

    def __init__(self, description: str, budget_s: float, on_progress: Callable[[str], None]) -> None:
        self._on_progress = on_progress
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            _TimeBar(),
            TextColumn("{task.elapsed:.0f} s of at most {task.total:.0f} s"),
            console=make_console(stderr=True),
            refresh_per_second=1,
            transient=True,
            # Otherwise lines that are printed to standard output would be on standard error.
            redirect_stdout=False,
            disable=not shows_bars(),
        )
        self._progress.add_task(description, total=budget_s)

    def line(self, text: str) -> None:
        """Pass a line of text on, with the bar below it."""
        self._progress.stop()
        self._on_progress(text)
        self._progress.start()

    def __enter__(self) -> SearchBar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()


class _TimeBar(ProgressColumn):
    def render(self, task: Task) -> ProgressBar:
        total = task.total or 1.0
        return ProgressBar(total=total, completed=min(task.elapsed or 0.0, total), width=40)
