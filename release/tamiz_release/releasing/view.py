"""The view of a release: its steps with their states and times, redrawn on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.live import Live
from rich.table import Table
from rich.text import Text

from tamiz.console import make_console, printable_line, progress_line
from tamiz.image_bar import shows_bars

from .plan import ReleasePlan
from .steps import ReleaseStep, StepName

_WITH_OWN_BARS: frozenset[StepName] = frozenset({"export", "gate"})
"""Steps that show bars of their own, below which no table can be redrawn."""

_STYLES = {"waiting": "dim", "running": "bold", "done": "green", "failed": "red", "interrupted": "yellow"}


class ReleaseView:
    """Shows a release while it is carried out; a context manager.

    Args:
        plan: what is carried out.
        on_terminal: whether standard error is a terminal that can be redrawn; None finds out.
        clock: a monotonic clock; returns seconds.
    """

    def __init__(
        self,
        plan: ReleasePlan,
        *,
        on_terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._steps = {name: ReleaseStep(name) for name in plan.steps}
        self._on_terminal = shows_bars() if on_terminal is None else on_terminal
        self._clock = clock
        self._began = 0.0
        self._live: Live | None = None

    @property
    def steps(self) -> tuple[ReleaseStep, ...]:
        """The steps as they are now."""
        return tuple(self._steps.values())

    def on_step(self, step: ReleaseStep) -> None:
        """Show a step that begins or ends."""
        self._hide()
        self._steps[step.name] = step
        place = f"[{list(self._steps).index(step.name) + 1}/{len(self._steps)}] {step.name}"
        if step.state == "running":
            self._began = self._clock()
            self.line(f"{place}: {step.text}")
        else:
            self.line(f"{place}: {step.state} after {step.seconds:.1f} s: {step.text}")
        if step.state == "running" and step.name not in _WITH_OWN_BARS:
            self._show(step.name)

    def line(self, text: str) -> None:
        """Print a line of text above the steps."""
        shown = self._live
        if shown is not None:
            shown.stop()
        progress_line(text)
        if shown is not None:
            shown.start(refresh=True)

    def table(self) -> Table:
        """The steps with their states, times and results."""
        table = Table.grid(padding=(0, 2))
        for step in self.steps:
            running = step.state == "running"
            seconds = self._clock() - self._began if running else step.seconds
            table.add_row(
                Text(step.name),
                Text(step.state, _STYLES[step.state]),
                Text("" if step.state == "waiting" else f"{seconds:.1f} s", justify="right"),
                Text(
                    printable_line(step.text or self._plan.describe(step.name)),
                    "dim" if step.state in ("waiting", "running") else "",
                ),
            )
        return table

    def __enter__(self) -> ReleaseView:
        return self

    def __exit__(self, *exc: object) -> None:
        self._hide()
        if self._on_terminal:
            make_console(stderr=True).print(self.table())

    def _show(self, step: StepName) -> None:
        if not self._on_terminal:
            return
        # A thread that redraws it only where no process is forked, which would inherit a lock that the thread holds.
        self._live = Live(
            get_renderable=self.table,
            console=make_console(stderr=True),
            auto_refresh=step == "watch",
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def _hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()
