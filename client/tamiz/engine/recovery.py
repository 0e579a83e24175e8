"""Recovery: what a call does after a failed attempt.

The pure function `decide` chooses; `engine.classification` carries out its decision. Only failures that a retry can fix
are retried: a full queue, a lost server, a version that is no longer live. A request that the server rejects, or cannot
compute, would fail again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from ..errors import DeadlineError, ModelNotFoundError, OverloadedError, ServerError, UnavailableError
from ..transports.status import ExpiredError, RegionNotRegisteredError


class Cause(enum.StrEnum):
    """Why a call is retried; the names are those of the counters in `Stats`."""

    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    VERSION_CHANGED = "version_changed"
    CANDIDATE_FAILED = "candidate_failed"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the decision depends on, besides the error.

    Attributes:
        bulk: whether the call is a batch of `classify_many`.
        time_left_s: seconds until the deadline of the call.
        backoff_s: seconds to wait before the next attempt, if the decision is to wait.
        budget_allows: whether the retry budget allows a retry now.
        several_servers: whether the client's URL may stand for more than one server.
        another_ready: whether a server other than the failed one is ready.
        any_answered: whether any server has ever answered this client.
        version_known: whether the failed request named a version that was read from the server; false when the request
            asked for the model's configuration.
        version_gone_before: whether this server has already reported during this call that this version is not live.
        candidate: whether the failed request was the first one of the call to the candidate of a rollout.
        server_ready: whether the failed server reports that it is ready; None if it has not been asked.
        registered_again: whether the shared-memory region was registered a second time with this server during this
            call.
    """

    # Defaults for tests only; the engine sets every field.
    bulk: bool = False
    time_left_s: float = 10.0
    backoff_s: float = 0.1
    budget_allows: bool = True
    several_servers: bool = False
    another_ready: bool = False
    any_answered: bool = True
    version_known: bool = True
    version_gone_before: bool = False
    candidate: bool = False
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
        spend_budget: the retry counts against the retry budget.
        avoid_server: the next attempt prefers another server.
        mark_down: treat the failed server as not ready.
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


# Raise the error and remember nothing about the server.
RAISE = Decision()


def decide(error: ServerError, situation: Situation) -> Decision:
    """Decide what a call does after a failed attempt.

    Args:
        error: why the attempt failed.
        situation: the situation of the call.
    """
    if situation.time_left_s <= 0:
        return RAISE
    decision = _decide(error, situation)
    if decision.retry and decision.wait_s >= situation.time_left_s:
        # There is no time for another attempt, but what was learned about the server still helps other calls.
        return replace(decision, retry=False, spend_budget=False)
    return decision


def _decide(error: ServerError, situation: Situation) -> Decision:
    match error:
        case OverloadedError():
            return _after_overload(situation)
        case _ if situation.candidate:
            # The live version answers: a candidate must not cost a caller an answer. Whether it was this version or
            # the whole server that failed, the next attempt shows.
            gone = isinstance(error, ModelNotFoundError)
            cause = Cause.VERSION_CHANGED if gone else Cause.CANDIDATE_FAILED
            return Decision(retry=True, cause=cause, avoid_server=False, forget_version=gone)
        case UnavailableError():
            return _after_loss(situation)
        case ExpiredError():
            # The clock of the server is ahead; from now on it is told no deadlines.
            return Decision(retry=True, cause=Cause.UNAVAILABLE, avoid_server=False)
        case DeadlineError() if situation.another_ready:
            # The server hangs, or is slow under its load.
            return _after_hang(situation)
        case ModelNotFoundError() if situation.version_known:
            return _after_version_change(situation)
        case ModelNotFoundError():
            return _after_unknown_model(situation)
        case RegionNotRegisteredError() if not situation.registered_again:
            # Usually the server has restarted since the region was registered.
            return Decision(retry=True, cause=Cause.UNAVAILABLE, wait_s=situation.backoff_s, forget_regions=True)
    return RAISE


def _after_overload(situation: Situation) -> Decision:
    if not situation.bulk and not situation.budget_allows:
        return RAISE
    return Decision(retry=True, cause=Cause.OVERLOADED, wait_s=situation.backoff_s, spend_budget=not situation.bulk)


def _after_loss(situation: Situation) -> Decision:
    if not situation.another_ready and not situation.any_answered:
        # No server has ever answered: the URL is probably wrong, so do not wait for one to come back.
        return Decision(mark_down=True, forget_regions=True)
    # The retry budget does not matter: a lost server computes nothing, so a retry does not add to an overload.
    return Decision(
        retry=True,
        cause=Cause.UNAVAILABLE,
        wait_s=0.0 if situation.another_ready else situation.backoff_s,
        mark_down=True,
        forget_regions=True,
    )


def _after_hang(situation: Situation) -> Decision:
    if not situation.bulk and not situation.budget_allows:
        return RAISE
    return Decision(
        retry=True, cause=Cause.UNAVAILABLE, spend_budget=not situation.bulk, mark_down=True, forget_regions=True
    )


def _after_version_change(situation: Situation) -> Decision:
    if not situation.version_gone_before:
        # Retry on the same server: it now serves another version.
        return Decision(retry=True, cause=Cause.VERSION_CHANGED, avoid_server=False, forget_version=True)
    if not situation.several_servers:
        return RAISE
    return Decision(retry=True, cause=Cause.VERSION_CHANGED, wait_s=situation.backoff_s, forget_version=True)


def _after_unknown_model(situation: Situation) -> Decision:
    if not situation.another_ready:
        if situation.server_ready is None:
            return Decision(ask_server=True)
        if situation.server_ready:
            # It is ready, so it really does not have the model; other models on it are not affected.
            return RAISE
    # While a server starts or stops, it does not know the model either.
    return Decision(
        retry=True, cause=Cause.VERSION_CHANGED, wait_s=situation.backoff_s, mark_down=True, forget_version=True
    )
