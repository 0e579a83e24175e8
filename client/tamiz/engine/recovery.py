"""Recovery: what a call does after a failed attempt. One pure function decides; `classification` carries it out.

Only a failure that a retry can repair is retried: a full queue, a lost server, a version that is no longer live. A
request that the server rejects, or cannot compute, would fail again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from ..errors import DeadlineError, ModelNotFoundError, OverloadedError, ServerError, UnavailableError
from ..transports.status import RegionNotRegisteredError


class Cause(enum.StrEnum):
    """Why a call is retried; the names are those of the counters in `Stats`."""

    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    VERSION_CHANGED = "version_changed"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the decision depends on, besides the error.

    Attributes:
        bulk: whether the call is a batch of `classify_many`.
        time_left_s: seconds until the deadline of the call.
        backoff_s: seconds to wait before the next attempt, where it has to wait.
        budget_left: whether the retry budget allows a retry now.
        several: whether more than one server may answer.
        another_ready: whether a server other than the failed one is ready.
        any_answered: whether any server has ever answered this client.
        version_known: whether the failed request named a version that was read from the server; false when the request
            asked for the model's configuration.
        version_gone_before: whether this server has said before, during this call, that this version is not live.
        server_ready: whether the failed server says that it is ready; None when it was not asked.
        registered_again: whether the shared-memory region was registered a second time with this server during this
            call.
    """

    bulk: bool = False
    time_left_s: float = 10.0
    backoff_s: float = 0.1
    budget_left: bool = True
    several: bool = False
    another_ready: bool = False
    any_answered: bool = True
    version_known: bool = True
    version_gone_before: bool = False
    server_ready: bool | None = None
    registered_again: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens next.

    Attributes:
        retry: try again; otherwise the error is raised.
        ask_server: first ask the failed server whether it is ready, then decide again.
        cause: which counter counts the retry.
        wait_s: seconds to wait before the next attempt.
        spend_budget: the retry uses up retry budget.
        avoid_server: the next attempt prefers another server.
        mark_down: take the failed server as not ready.
        forget_version: read the version again from the failed server before its next request.
        forget_regions: register shared memory again with the failed server.
    """

    retry: bool = False
    ask_server: bool = False
    cause: Cause = Cause.UNAVAILABLE
    wait_s: float = 0.0
    spend_budget: bool = False
    avoid_server: bool = True
    mark_down: bool = False
    forget_version: bool = False
    forget_regions: bool = False


RAISE = Decision()


def decide(error: ServerError, now: Situation) -> Decision:
    """Decide what a call does after a failed attempt.

    Args:
        error: why the attempt failed.
        now: the situation of the call.
    """
    if now.time_left_s <= 0:
        return RAISE
    decision = _decide(error, now)
    if decision.retry and 0 < decision.wait_s >= now.time_left_s:
        # The next attempt would come too late; what was learned about the server is kept for other calls.
        return replace(decision, retry=False, spend_budget=False)
    return decision


def _decide(error: ServerError, now: Situation) -> Decision:
    match error:
        case OverloadedError():
            return _after_overload(now)
        case UnavailableError():
            return _after_loss(now)
        case DeadlineError() if now.another_ready:
            # The server hangs, or is slow under its load.
            return _after_hang(now)
        case ModelNotFoundError() if now.version_known:
            return _after_version_change(now)
        case ModelNotFoundError():
            return _after_unknown_model(now)
        case RegionNotRegisteredError() if not now.registered_again:
            # The server has restarted since the region was registered.
            return Decision(retry=True, cause=Cause.UNAVAILABLE, wait_s=now.backoff_s, forget_regions=True)
    return RAISE


def _after_overload(now: Situation) -> Decision:
    if not now.bulk and not now.budget_left:
        return RAISE
    return Decision(retry=True, cause=Cause.OVERLOADED, wait_s=now.backoff_s, spend_budget=not now.bulk)


def _after_loss(now: Situation) -> Decision:
    if not now.another_ready and not now.any_answered:
        # No server ever answered: the address is more likely wrong than a server about to return.
        return Decision(mark_down=True, forget_regions=True)
    return Decision(
        retry=True,
        cause=Cause.UNAVAILABLE,
        wait_s=0.0 if now.another_ready else now.backoff_s,
        mark_down=True,
        forget_regions=True,
    )


def _after_hang(now: Situation) -> Decision:
    if not now.bulk and not now.budget_left:
        return RAISE
    return Decision(retry=True, cause=Cause.UNAVAILABLE, spend_budget=not now.bulk, mark_down=True, forget_regions=True)


def _after_version_change(now: Situation) -> Decision:
    if not now.version_gone_before:
        # The same server answers with the version that is live now.
        return Decision(retry=True, cause=Cause.VERSION_CHANGED, avoid_server=False, forget_version=True)
    if not now.several:
        return RAISE
    return Decision(retry=True, cause=Cause.VERSION_CHANGED, wait_s=now.backoff_s, forget_version=True)


def _after_unknown_model(now: Situation) -> Decision:
    if not now.another_ready:
        if now.server_ready is None:
            return Decision(ask_server=True)
        if now.server_ready:
            return RAISE
    # A server that is starting or stopping knows no model either.
    return Decision(retry=True, cause=Cause.VERSION_CHANGED, wait_s=now.backoff_s, mark_down=True, forget_version=True)
