"""Concurrency limits: how many batches are prepared, and how many requests are in flight, at the same time."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from .steps import Flow, Wait

CORES = len(os.sched_getaffinity(0))

_START = 4
"""Enough for a server of one or two instances to compute one request while others travel."""

_MAX = 64

_PERIOD_S = 0.5
"""Throughput is measured over at least this time, and over at least four replies for each request in flight."""

_GAIN = 1.05
"""A higher limit must raise the throughput by this factor to be kept: less is noise, and costs latency."""

_LOSS = 0.98
"""A lower limit must keep this share of the throughput."""

_HOLD_PERIODS = 10
"""After a trial of another limit that was not better, periods until the next trial."""


class ConcurrencyLimit:
    """Admits up to ``limit`` holders at a time; the others wait, first come, first served.

    It works for threads and event loops: a caller that must wait gets a `concurrent.futures.Future`.
    """

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._held = 0
        self._waiting: deque[Future[None]] = deque()

    @property
    def limit(self) -> int:
        """The largest number of holders at a time."""
        return self._limit

    def acquire(self) -> Future[None] | None:
        """Take a slot at once and return None, or return a future that ends when the slot is taken.

        Every acquired slot is given back by `release`.
        """
        with self._lock:
            if self._held < self._limit:
                self._held += 1
                return None
            slot: Future[None] = Future()
            self._waiting.append(slot)
            return slot

    def cancel(self, slot: Future[None]) -> None:
        """Stop waiting for a slot; no `release` follows."""
        if not slot.cancel():
            # The slot was taken in the meantime.
            self.release()

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._held -= 1
            self._admit()

    def admit_all(self) -> None:
        """Admit everybody from now on, because the client was closed: whoever waits must find that out."""
        with self._lock:
            self._limit = sys.maxsize
            self._admit()

    def wait(self) -> Flow[None]:
        """A step that waits for a slot."""
        slot = self.acquire()
        if slot is not None:
            try:
                yield Wait(slot)
            except BaseException:
                self.cancel(slot)
                raise

    def _admit(self) -> None:
        while self._waiting and self._held < self._limit:
            slot = self._waiting.popleft()
            # False when its holder has stopped waiting.
            if slot.set_running_or_notify_cancel():
                self._held += 1
                slot.set_result(None)


class AdaptiveLimit(ConcurrencyLimit):
    """The limit of requests in flight, which adapts to the servers by hill climbing.

    The limit doubles as long as the throughput rises with it. Later it tries one step more and one step less in turn,
    and keeps what is faster, or equally fast with fewer requests. A full queue halves it. (The multiplicative decrease
    of TCP's AIMD: Chiu and Jain, 1989.)

    Args:
        fixed: keep this limit; None adapts.
        clock: a monotonic clock; returns seconds.
    """

    def __init__(self, fixed: int | None = None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(fixed or _START)
        self._fixed = fixed is not None
        self._clock = clock
        self._doubling = True
        self._up = True
        # The first period contains the time in which the pipeline fills.
        self._hold = 2
        self._rates: deque[float] = deque(maxlen=_HOLD_PERIODS)
        self._before_trial: tuple[int, float] | None = None
        self._halved = -_PERIOD_S
        self._begin_period()

    def record_reply(self, images: int) -> None:
        """Count the reply to a request of this many images."""
        if self._fixed:
            return
        with self._lock:
            self._images += images
            self._replies += 1
            elapsed = self._clock() - self._began
            if elapsed >= _PERIOD_S and self._replies >= 4 * self._limit:
                self._judge(self._images / elapsed)
                self._begin_period()
                self._admit()

    def record_overload(self) -> None:
        """Count a request that was refused because a queue was full."""
        if self._fixed:
            return
        with self._lock:
            # Of refusals at the same moment only the first counts: all of them are due to the limit before.
            if self._clock() - self._halved > _PERIOD_S:
                self._limit = max(1, self._limit // 2)
                self._halved = self._clock()
            self._settle()

    def _begin_period(self) -> None:
        self._began = self._clock()
        self._images = self._replies = 0

    def _settle(self) -> None:
        self._doubling, self._before_trial, self._hold = False, None, _HOLD_PERIODS
        self._rates.clear()
        self._begin_period()

    def _judge(self, images_per_s: float) -> None:
        """At the end of a period: keep the limit, try another one, or decide about the one that was tried."""
        if self._before_trial is None:
            self._rates.append(images_per_s)
            self._hold -= 1
            if self._hold <= 0:
                self._try_another()
            return
        limit, rate = self._before_trial
        self._before_trial = None
        if images_per_s >= rate * (_GAIN if self._up else _LOSS):
            self._rates.clear()
            self._rates.append(images_per_s)
            self._try_another()
        else:
            self._limit = limit
            self._up = not self._up
            self._settle()

    def _try_another(self) -> None:
        if len(self._rates) > 1 and self._doubling:
            self._rates.popleft()
        self._before_trial = self._limit, sum(self._rates) / len(self._rates)
        step = self._limit if self._doubling else max(1, self._limit // 8)
        self._limit = min(_MAX, self._limit + step) if self._up else max(1, self._limit - step)


@dataclass(frozen=True)
class Limits:
    """The concurrency limits of the batches of `classify_many`.

    Attributes:
        preparing: limit of the batches that are being prepared, or are prepared and wait to be sent: one for each
            processor, which bounds both the threads that decode and the memory for decoded images.
        in_flight: limit of the requests in flight.
    """

    preparing: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(CORES))
    in_flight: AdaptiveLimit = field(default_factory=AdaptiveLimit)

    @classmethod
    def none(cls) -> Limits:
        """No limits: for single calls, whose number is up to the caller."""
        return cls(ConcurrencyLimit(sys.maxsize), AdaptiveLimit(sys.maxsize))

    def ahead(self) -> int:
        """How many batches may be taken from the source before their outcomes are consumed.

        Twice as many as can be prepared and in flight, so that one slow reply does not hold up the others.
        """
        return 2 * (self.preparing.limit + self.in_flight.limit)
