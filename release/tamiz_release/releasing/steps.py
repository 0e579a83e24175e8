"""The steps of a release: their states and times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

StepName: TypeAlias = Literal["export", "gate", "publish", "canary", "watch", "promote"]
StepState: TypeAlias = Literal["waiting", "running", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class ReleaseStep:
    """One step of a release.

    Attributes:
        name: ``export``, ``gate``, ``publish``, ``canary``, ``watch`` or ``promote``.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``interrupted``.
        seconds: how long it took; 0 until it has ended.
        text: what it does while it is running; then what came out of it, or why it failed. Empty while it waits.
    """

    name: StepName
    state: StepState = "waiting"
    seconds: float = 0.0
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The step as JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class ReleaseSteps:
    """The steps of a release, of which at most one is running.

    Args:
        names: the names of the steps, in their order.
        on_step: called with each step when it begins and when it ends.
        clock: a monotonic clock; returns seconds.
    """

    def __init__(
        self,
        names: Sequence[StepName],
        on_step: Callable[[ReleaseStep], None] = lambda step: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = {name: ReleaseStep(name) for name in names}
        self._on_step = on_step
        self._clock = clock
        self._running: StepName | None = None
        self._began = 0.0

    def list(self) -> tuple[ReleaseStep, ...]:
        """All steps, in their order."""
        return tuple(self._steps.values())

    def begin(self, name: StepName, text: str) -> None:
        """Begin a step that does what the text says; the one before it must have ended."""
        self._running, self._began = name, self._clock()
        self._set(name, state="running", text=text)

    def end(self, text: str, state: StepState = "done") -> None:
        """End the running step; nothing happens if none is running."""
        name, self._running = self._running, None
        if name is not None:
            self._set(name, state=state, seconds=self._clock() - self._began, text=text)

    def _set(self, name: StepName, **changes: Any) -> None:
        self._steps[name] = step = replace(self._steps[name], **changes)
        self._on_step(step)
