"""How soon and how often a call is retried."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

_TOKENS_PER_CALL = 0.08
_TOKENS_PER_S = 1.0
_MAX_TOKENS = 10.0

_FIRST_BACKOFF_S = 0.02
_MAX_BACKOFF_S = 1.0


def backoff(failures: int) -> float:
    """Seconds to wait before the next attempt.

    Exponential with full jitter, so that clients that were refused together do not come back together. (Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)

    Args:
        failures: number of failed attempts, 1 or more.
    """
    return random.uniform(0, min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures, 16)))


class RetryBudget:
    """Limits the retries of overloaded servers to 8 % of the calls plus one per second.

    So retries never make an overload worse by more than a tenth, whatever the number of callers; the one per second is
    for clients with so few calls that 8 % of them would hardly ever allow a retry. (The token bucket of Finagle's
    RetryBudget.)

    Args:
        clock: a monotonic clock; returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = _MAX_TOKENS
        self._filled = clock()

    def earn(self) -> None:
        """Count a new call."""
        with self._lock:
            self._tokens = min(_MAX_TOKENS, self._tokens + _TOKENS_PER_CALL)

    def allows(self) -> bool:
        """Whether a retry is allowed now."""
        with self._lock:
            self._fill()
            return self._tokens >= 1

    def spend(self) -> None:
        """Count a retry. Callers that were allowed at the same moment may go into debt, which is paid back first."""
        with self._lock:
            self._fill()
            self._tokens -= 1

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(_MAX_TOKENS, self._tokens + (now - self._filled) * _TOKENS_PER_S)
        self._filled = now
