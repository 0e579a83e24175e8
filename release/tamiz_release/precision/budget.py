"""The time budget of a search: no step is begun that would not fit, by the time that the steps before have taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Step = Literal["speeds", "losses"]
"""What a step measures: the speed of some graphs beside FP32, or what a graph loses."""


class Budget:
    """The time budget of a search, which begins now.

    Args:
        seconds: the time in seconds.
        clock: a monotonic clock; returns seconds.

    Attributes:
        left_out: what was left out because it would not have fitted, for people.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.left_out: list[str] = []
        self._seconds, self._clock, self._began = seconds, clock, clock()
        self._taken: dict[Step, tuple[float, int]] = {}

    @property
    def spent(self) -> float:
        """Time since the search began, in seconds."""
        return self._clock() - self._began

    @contextmanager
    def step(self, kind: Step, count: int = 1) -> Iterator[None]:
        """Take the time of a step.

        Args:
            kind: what it measures.
            count: number of graphs that it measures; for ``speeds`` beside FP32.
        """
        began = self._clock()
        yield
        seconds, graphs = self._taken.get(kind, (0.0, 0))
        self._taken[kind] = seconds + self._clock() - began, graphs + _graphs(kind, count)

    def fits(self, *, speeds: int = 0, losses: int = 0, share: float = 1.0) -> bool:
        """Whether further steps are expected to end in time; one that was never taken is expected to take no time.

        Args:
            speeds: number of graphs whose speed will be measured together.
            losses: number of graphs whose loss will be measured.
            share: the share of the budget within which the steps must end.
        """
        expected = self._expect("speeds", speeds) + self._expect("losses", losses)
        end = self._seconds * share
        return self.spent < end and self.spent + expected <= end

    def leave_out(self, text: str) -> None:
        """Note that something was left out because it does not fit."""
        if text not in self.left_out:
            self.left_out.append(text)

    def _expect(self, kind: Step, count: int) -> float:
        seconds, graphs = self._taken.get(kind, (0.0, 0))
        return seconds / graphs * _graphs(kind, count) if graphs and count else 0.0


def _graphs(kind: Step, count: int) -> int:
    # Speeds are compared with that of the FP32 graph, which is measured again each time.
    return count + 1 if kind == "speeds" else count
