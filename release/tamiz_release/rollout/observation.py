"""The observation of a rollout: probes at a fixed rate, the counts of the server, and a look at both every second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from tamiz.errors import ServerError
from tamiz.transports.requests import VersionCounts
from tamiz_server.promotion import RolloutEnded

from .judge import Judge, Pair, WatchFinding

LOOK_S = 1.0
"""Seconds between looks."""

PATIENCE_S = 30.0
"""A watch ends when the server has not answered for so many seconds."""


class Observed(Protocol):
    """A rollout on a server."""

    def is_in_force(self) -> bool:
        """Whether the server still has the candidate beside the same live version.

        Raises:
            ServerError: the server does not answer.
        """

    def counts(self) -> tuple[VersionCounts, VersionCounts]:
        """What the server has counted of the live version and of the candidate.

        Raises:
            ServerError: the server does not answer.
        """

    def probe(self) -> Pair:
        """Ask both versions about an image."""


def observe(
    observed: Observed,
    judge: Judge,
    *,
    watch_s: float,
    probes_per_s: float,
    on_look: Callable[[float], None] = lambda seconds: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> WatchFinding | None:
    """Observe a rollout until the judge finds a breach, or the time is over.

    Args:
        observed: the rollout.
        judge: takes in what is observed.
        watch_s: seconds to observe.
        probes_per_s: number of probes a second; 0 for none. When versions take longer to answer, there are fewer.
        on_look: called after each look with the seconds since the beginning.
        clock: a monotonic clock; returns seconds.
        sleep: waits for so many seconds.

    Returns:
        the breach; None if there was none.

    Raises:
        RolloutEnded: somebody else has ended the rollout.
        ServerError: the server did not answer for `PATIENCE_S`.
    """
    counts = _Increases(observed)
    began = answered = clock()
    ends, next_look = began + watch_s, began + LOOK_S
    next_probe = began if probes_per_s else math.inf
    while True:
        now = clock()
        # What was due first comes first, so that neither slow probes nor slow looks leave the other no time.
        if next_probe <= min(now, next_look) and now < ends:
            judge.add_pair(observed.probe())
            # A late probe is not made up for, so that a slow server gets no burst.
            next_probe = max(next_probe + 1 / probes_per_s, clock())
        elif now >= min(next_look, ends):
            try:
                if not observed.is_in_force():
                    raise RolloutEnded("somebody else has ended the rollout, or replaced it by another one")
                judge.add_requests(*counts.since_last())
                answered = now
            except ServerError:
                if now - answered >= PATIENCE_S:
                    raise
            breach = judge.look()
            on_look(now - began)
            if breach is not None or now >= ends:
                return breach
            next_look = max(next_look + LOOK_S, clock())
        else:
            sleep(min(next_look, next_probe, ends) - now)


class _Increases:
    """By how much the counts of a server have grown: failed requests and all requests, of each version."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._before: list[tuple[int, int]] | None = None

    def since_last(self) -> tuple[tuple[int, int], tuple[int, int]]:
        now = [(counts.failed, counts.failed + counts.answered) for counts in self._observed.counts()]
        before = now if self._before is None else self._before
        self._before = now
        live, candidate = (
            # A server that was started again counts from 0.
            new if new[0] < old[0] or new[1] < old[1] else (new[0] - old[0], new[1] - old[1])
            for old, new in zip(before, now, strict=True)
        )
        return live, candidate
