"""What happens between two attempts of a call: the failure is judged and remembered, and the next attempt awaited."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..errors import ModelNotFoundError, ServerError
from ..served_version import ServedVersion
from ..transports.status import RegionNotRegisteredError
from .call import Call
from .connections import Connections, Endpoint
from .events import CallRetried, OnEvent, notify
from .exchange import Exchange
from .failures import name_all, reason
from .recovery import Decision, Situation, decide
from .retries import RetryBudget, backoff
from .stats import Counter
from .steps import Flow, Sleep

logger = logging.getLogger("tamiz")


class Retrier:
    """Prepares the next attempt of a call after one that failed, or raises its error.

    Args:
        connections: the servers of the client.
        exchange: asks a server whether it is ready.
        counter: counts retries.
        clock: a monotonic clock; returns seconds.
        on_event: called with an event for each retry; None disables events.
        forget_regions: called with the URL of a server that has lost its shared-memory regions.
    """

    def __init__(
        self,
        connections: Connections,
        exchange: Exchange,
        counter: Counter,
        *,
        clock: Callable[[], float],
        on_event: OnEvent | None,
        forget_regions: Callable[[str], None],
    ) -> None:
        self._connections = connections
        self._exchange = exchange
        self._counter = counter
        self._clock = clock
        self._on_event = on_event
        self._forget_regions = forget_regions
        self._budget = RetryBudget(clock)

    def earn(self) -> None:
        """Add to the retry budget what a new call allows."""
        self._budget.earn()

    def recover(self, error: ServerError, endpoint: Endpoint, call: Call, served: ServedVersion | None) -> Flow[None]:
        """Return when the next attempt may begin, or raise the error.

        Args:
            error: why the attempt failed.
            endpoint: the server of the attempt.
            call: the state of the call.
            served: the version that the attempt requested; None when it failed before it knew one.
        """
        call.record(error, endpoint)
        wait_s = backoff(call.failures)
        decision = decide(error, self._situation(error, endpoint, call, served, wait_s))
        if decision.ask_server:
            ready = yield from self._exchange.is_ready(endpoint, call)
            decision = decide(error, self._situation(error, endpoint, call, served, wait_s, server_ready=ready))
        self._remember(decision, error, endpoint, call, served)
        call.candidate_failed = call.candidate_failed or _by_candidate(error, served)
        if not decision.retry:
            if isinstance(error, ModelNotFoundError) and served is None:
                error = yield from self._exchange.name_models(error, endpoint, call)
            raise name_all(error, self._connections.failures() | call.reasons)
        logger.info("attempt %d failed: %s; next attempt in %.0f ms", call.failures, error, decision.wait_s * 1000)
        if self._on_event is not None:
            retried = CallRetried(call.number, endpoint.url, error, decision.cause, call.failures, decision.wait_s)
            notify(self._on_event, retried)
        if decision.wait_s:
            yield Sleep(decision.wait_s)
        self._counter.count(decision.cause)

    def _situation(
        self,
        error: ServerError,
        endpoint: Endpoint,
        call: Call,
        served: ServedVersion | None,
        wait_s: float,
        *,
        server_ready: bool | None = None,
    ) -> Situation:
        return Situation(
            bulk=call.bulk,
            time_left_s=call.deadline - self._clock(),
            backoff_s=wait_s,
            budget_allows=self._budget.allows(),
            several_servers=self._connections.several,
            another_ready=self._connections.another_ready(endpoint),
            any_answered=self._connections.any_answered(),
            version_known=served is not None,
            version_gone_before=served is not None and (endpoint.url, _version(error, served)) in call.gone,
            candidate=not call.candidate_failed and _by_candidate(error, served),
            server_ready=server_ready,
            registered_again=endpoint.url in call.registered_again,
        )

    def _remember(
        self, decision: Decision, error: ServerError, endpoint: Endpoint, call: Call, served: ServedVersion | None
    ) -> None:
        """Record what the failure reveals about the server, for this call and for others."""
        call.avoid = endpoint if decision.avoid_server else None
        if decision.spend_budget:
            self._budget.spend()
        if decision.mark_down:
            endpoint.failure = reason(error, endpoint.url)
        if decision.forget_regions:
            self._forget_regions(endpoint.url)
        if isinstance(error, RegionNotRegisteredError):
            call.registered_again.add(endpoint.url)
        if decision.forget_version:
            if served is not None:
                call.gone.add((endpoint.url, _version(error, served)))
            if endpoint.served is served:
                endpoint.served = None


def _version(error: ServerError, served: ServedVersion) -> int:
    """The version that a failed request named: the live one or its candidate."""
    return served.version if error.version is None else error.version


def _by_candidate(error: ServerError, served: ServedVersion | None) -> bool:
    return served is not None and served.candidate is not None and error.version == served.candidate.version
