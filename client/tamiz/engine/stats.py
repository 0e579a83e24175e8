"""Counts of what a client has done."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stats:
    """What a client has done since it was created.

    Attributes:
        calls: calls to the model: one for each `classify`, one for each batch of `classify_many`.
        requests: requests sent for these calls, of every kind, retries included.
        images: images that were answered.
        overloaded: retries because a queue was full.
        unavailable: retries because a server did not answer, was lost, or timed out while another was ready.
        version_changed: retries because the version was no longer live, or the model was not loaded (yet); the images
            were prepared again if needed.
        candidate_failed: retries with the live version because the candidate of a rollout failed.
        candidate_images: images that the candidate of a rollout answered.
        shadow_requests: requests to a candidate beside those of the live version; `requests` does not count them.
        shadow_errors: those of them that failed.
        shadow_skipped: calls that were not sent to a candidate as well, because too many such requests were in flight,
            or no thread could be started.
        shadow_agreements: images that the candidate gave the same labels as the live version.
        shadow_differences: images that it gave other labels.
        shadow_s: sum of the seconds of the shadow requests that were answered.
        shadow_live_s: sum of the seconds of the requests to the live version that belong to these.
    """

    calls: int = 0
    requests: int = 0
    images: int = 0
    overloaded: int = 0
    unavailable: int = 0
    version_changed: int = 0
    candidate_failed: int = 0
    candidate_images: int = 0
    shadow_requests: int = 0
    shadow_errors: int = 0
    shadow_skipped: int = 0
    shadow_agreements: int = 0
    shadow_differences: int = 0
    shadow_s: float = 0.0
    shadow_live_s: float = 0.0

    @property
    def retries(self) -> int:
        """Attempts after a failed one, whatever the cause."""
        return self.overloaded + self.unavailable + self.version_changed + self.candidate_failed

    @property
    def amplification(self) -> float:
        """Requests sent per request that was needed; 1.0 when nothing was retried."""
        first = self.requests - self.retries
        return self.requests / first if first > 0 else 1.0


class Counter:
    """Counts into a `Stats` from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[str, Any] = defaultdict(int)

    @property
    def stats(self) -> Stats:
        """What was counted so far."""
        with self._lock:
            return Stats(**self._counts)

    def count(self, attribute: str, more: float = 1) -> None:
        """Add to one of the attributes of `Stats`."""
        with self._lock:
            self._counts[attribute] += more
