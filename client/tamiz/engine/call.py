"""The state of one call: a `classify`, one batch of `classify_many`, or a `refresh`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ..errors import ServerError
from .connections import Endpoint
from .failures import reason

_numbers = itertools.count(1)


@dataclass
class Call:
    """The state of one call, over all of its attempts.

    Attributes:
        deadline: time by the engine's clock at which the call fails.
        bulk: whether it is a batch of `classify_many`. The concurrency limit bounds the load of those, so they retry
            without a retry budget until the deadline.
        provenance: whether its predictions carry their provenance.
        number: identifies the call in events; unique in the process.
        failures: number of failed attempts.
        last_failure: error of the last failed attempt.
        reasons: why the last attempt at each server failed, by its URL.
        avoid: the server of the last failed attempt.
        gone: URL and version of each version that was found to be no longer live.
        draw: the random number that decides whether the candidate of a rollout answers the call; None until one is met.
        asks_candidate: whether the request in flight is to the candidate of a rollout.
        candidate_failed: whether the candidate of a rollout has failed; then the live version answers.
        registered_again: URLs of the servers with which a shared-memory region was registered a second time.
    """

    deadline: float
    bulk: bool = False
    provenance: bool = False
    number: int = field(default_factory=_numbers.__next__)
    failures: int = 0
    last_failure: ServerError | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    avoid: Endpoint | None = None
    gone: set[tuple[str, int]] = field(default_factory=set)
    draw: float | None = None
    asks_candidate: bool = False
    candidate_failed: bool = False
    registered_again: set[str] = field(default_factory=set)

    def record(self, error: ServerError, endpoint: Endpoint) -> None:
        """Record a failed attempt at a server."""
        self.failures += 1
        self.last_failure = error
        # The error is that of an earlier attempt, perhaps at another server, if the deadline passed before this one.
        url = error.url or endpoint.url
        self.reasons[url] = reason(error, url)
