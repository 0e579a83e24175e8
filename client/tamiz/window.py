"""Gates: how many may be at something at once; and the window, a gate that finds that number by itself."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future

_START = 4
"""Enough for a server of one or two instances to compute on one request while the next ones come and go."""

_PERIOD_S = 0.5
"""Throughput is judged over at least so long, and over at least four replies for each request under way."""

_GAIN = 1.05
"""More under way must raise the throughput so much to be kept: less is noise, and paid for in latency."""

_LOSS = 0.98
"""Fewer under way must keep so much of it."""

_HOLD_PERIODS = 10
"""Periods for which a number is kept before another is tried, after one that was no better."""


class Gate:
    """Lets up to ``limit`` holders through; others wait for their turn, in order.

    It serves threads and event loops alike: who must wait gets a `concurrent.futures.Future`.
    """

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._inside = 0
        self._waiting: deque[Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many may be inside at once."""
        return self._limit

    def enter(self) -> Future[None] | None:
        """Come in at once (None), or get what ends when it is one's turn. Each entry is followed by one `leave`."""
        with self._lock:
            if self._inside < self._limit:
                self._inside += 1
                return None
            turn: Future[None] = Future()
            self._waiting.append(turn)
            return turn

    def abandon(self, turn: Future[None]) -> None:
        """Give up waiting for a turn; no `leave` follows."""
        if not turn.cancel():
            self.leave()

    def leave(self) -> None:
        """Make room for the next."""
        with self._lock:
            self._inside -= 1
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._inside < self._limit:
            # False for a turn that its holder gave up.
            if self._waiting[0].set_running_or_notify_cancel():
                self._inside += 1
                self._waiting.popleft().set_result(None)
            else:
                self._waiting.popleft()


class Window(Gate):
    """The gate of requests under way, which adapts to the servers.

    It climbs: it doubles for as long as throughput rises by that; later it tries one step more and one step fewer by
    turns, and keeps what is better, or is as good with fewer. A refusal by a full queue halves it. (Hill climbing
    with the multiplicative decrease of TCP's AIMD: Chiu and Jain, 1989.)

    Args:
        fixed: keep this number for good; None adapts.
        most: never more than that.
    """

    def __init__(self, fixed: int | None = None, *, most: int = 64) -> None:
        super().__init__(fixed or _START)
        self._fixed = fixed is not None
        self._most = most
        self._doubling = True
        self._up = True
        # The first period has the time in it that the pipeline takes to fill.
        self._hold = 2
        self._rates: deque[float] = deque(maxlen=_HOLD_PERIODS)
        self._before: tuple[int, float] | None = None
        self._halved = -_PERIOD_S
        self._begin_period()

    def answered(self, images: int) -> None:
        """Tell that a request of some images was answered."""
        if self._fixed:
            return
        with self._lock:
            self._images += images
            self._replies += 1
            elapsed = time.perf_counter() - self._began
            if elapsed >= _PERIOD_S and self._replies >= 4 * self._limit:
                self._judge(self._images / elapsed)
                self._begin_period()
                self._admit()

    def refused(self) -> None:
        """Tell that a queue was full."""
        if self._fixed:
            return
        with self._lock:
            # Of the refusals of one moment only the first counts: they are all of the number before.
            if time.perf_counter() - self._halved > _PERIOD_S:
                self._limit = max(1, self._limit // 2)
                self._halved = time.perf_counter()
            self._settle()

    def _begin_period(self) -> None:
        self._began = time.perf_counter()
        self._images = self._replies = 0

    def _settle(self) -> None:
        self._doubling, self._before, self._hold = False, None, _HOLD_PERIODS
        self._rates.clear()
        self._begin_period()

    def _judge(self, images_per_s: float) -> None:
        """At the end of a period: go on holding, try another number, or decide on the one that was tried."""
        if self._before is None:
            self._rates.append(images_per_s)
            self._hold -= 1
            if self._hold <= 0:
                self._try_another()
            return
        limit, rate = self._before
        self._before = None
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
        self._before = self._limit, sum(self._rates) / len(self._rates)
        step = self._limit if self._doubling else max(1, self._limit // 8)
        self._limit = min(self._most, self._limit + step) if self._up else max(1, self._limit - step)
