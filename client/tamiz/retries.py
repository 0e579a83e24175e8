"""Retries: how many, how soon, and a count of all of them."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, replace

_SHARE = 0.08
_PER_S = 1.0
_MOST = 10.0

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


def pause(attempt: int) -> float:
    """Seconds to wait before an attempt is repeated, 1 being the first that failed.

    Exponential with full jitter, so that clients refused together do not come back together. (Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
    """
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**attempt))


class RetryBudget:
    """What a client may send again to servers that refuse for load: 8 in 100 calls, and one a second besides.

    So an overload is never made worse by more than a tenth, whatever the number of callers; one a second, for a client
    of few calls could hardly ever send again without. (The token bucket of Finagle's RetryBudget.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = _MOST
        self._filled = time.monotonic()

    def earn(self) -> None:
        """A call begins."""
        with self._lock:
            self._tokens = min(_MOST, self._tokens + _SHARE)

    def spend(self) -> bool:
        """Whether a request may be sent again now."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(_MOST, self._tokens + (now - self._filled) * _PER_S)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


@dataclass(frozen=True)
class Stats:
    """What a client did since it was made.

    Attributes:
        calls: to the model: one for each `classify`, one for each batch of `classify_many`.
        requests: that were sent for these calls, of whatever kind; those sent again among them.
        images: that were answered.
        overloaded: retries because a queue was full.
        lost: retries because the server was not there, or was lost, or did not answer in time.
        gone: retries, with the images prepared again, because the version was no longer live.
    """

    calls: int = 0
    requests: int = 0
    images: int = 0
    overloaded: int = 0
    lost: int = 0
    gone: int = 0

    @property
    def retries(self) -> int:
        """Attempts after one that failed, for whatever cause."""
        return self.overloaded + self.lost + self.gone

    @property
    def amplification(self) -> float:
        """Requests sent for each that was needed; 1.0 where nothing was repeated."""
        first = self.requests - self.retries
        return self.requests / first if first > 0 else 1.0


class Counter:
    """Counts into a `Stats` from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.stats = Stats()

    def count(self, **more: int) -> None:
        """Add to some of the attributes of `Stats`."""
        with self._lock:
            self.stats = replace(self.stats, **{name: getattr(self.stats, name) + n for name, n in more.items()})
