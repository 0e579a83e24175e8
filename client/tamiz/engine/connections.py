"""Connections: the servers of a client, which of them are ready, and which one gets the next request."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..served_version import ServedVersion
from ..threads import Threads
from ..transports import Address, Reply, Transport
from ..transports.requests import ModelReady
from .failures import reason

PROBE_INTERVAL_S = 0.5
"""Each of several servers is asked this often whether it is ready."""

PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class EndpointState:
    """A snapshot of one server of a client.

    Attributes:
        url: URL of the server.
        ready: whether the server answered the last time.
        answered: whether the server has ever answered.
        version: the live version of the model on the server; None when it was not read yet, or is no longer live.
        in_flight: number of inference requests in flight.
    """

    url: str
    ready: bool
    answered: bool
    version: int | None
    in_flight: int


class Endpoint:
    """One server.

    Attributes:
        url: URL of the server.
        transport: the connection to it.
        served: the live version of the model on it; None when it was not read yet, or is no longer live. It belongs to
            the server, not to the client: during a rollout one server has the new version and another has not.
        failure: why it is not ready: it did not answer the last time, or reported that it is not; empty if it is ready.
        answered: whether it has ever answered.
        refresh_at: time by the engine's clock from which the configuration is read again in the background.
        clock_agrees: false when the clock of the server was found to be ahead; it is told no deadlines then.
        in_flight: number of inference requests in flight.
    """

    def __init__(self, url: str, transport: Transport) -> None:
        self.url = url
        self.transport = transport
        self.served: ServedVersion | None = None
        self.failure = ""
        self.answered = False
        self.refresh_at = 0.0
        self.clock_agrees = True
        self.in_flight = 0

    @property
    def ready(self) -> bool:
        """Whether it answered the last time."""
        return not self.failure

    @property
    def state(self) -> EndpointState:
        """A snapshot."""
        served = self.served
        version = served.version if served is not None else None
        return EndpointState(self.url, self.ready, self.answered, version, self.in_flight)


class Connections:
    """The servers behind one address.

    When there are several, a thread asks each of them twice a second whether it is ready. (Triton's health service has
    no ``Watch`` method, so gRPC's own health checking would take a server that is loading models for a healthy one.)

    Args:
        address: the servers.
        model: the model whose readiness counts.
        connect: opens a transport to the server of a URL.
    """

    def __init__(self, address: Address, model: str, connect: Callable[[str], Transport]) -> None:
        self.several = address.several
        self.endpoints = tuple(Endpoint(url, connect(url)) for url in address.urls)
        self._lock = threading.Lock()
        self._next = itertools.count()
        self._closed = threading.Event()
        if len(self.endpoints) > 1:
            # The thread gets no reference to this object, so that it ends when its client is closed or collected.
            threads = Threads(name="tamiz-probe")
            threads.run(partial(_probe, self.endpoints, self._closed, model))
            threads.close()

    def pick(self, avoid: Endpoint | None = None) -> Endpoint:
        """The ready server with the fewest requests in flight; equally loaded servers take turns.

        Args:
            avoid: a server that has just failed; it is picked only when no other server is ready.
        """
        if len(self.endpoints) == 1:
            return self.endpoints[0]
        with self._lock:
            start = next(self._next) % len(self.endpoints)
            rotated = self.endpoints[start:] + self.endpoints[:start]
            return min(rotated, key=lambda endpoint: (not endpoint.ready, endpoint is avoid, endpoint.in_flight))

    def another_ready(self, endpoint: Endpoint) -> bool:
        """Whether a server other than this one is ready."""
        return any(other.ready for other in self.endpoints if other is not endpoint)

    def any_answered(self) -> bool:
        """Whether any server has ever answered."""
        return any(endpoint.answered for endpoint in self.endpoints)

    def failures(self) -> dict[str, str]:
        """Why each server that is not ready failed, by its URL."""
        return {endpoint.url: endpoint.failure for endpoint in self.endpoints if endpoint.failure}

    def count_in_flight(self, endpoint: Endpoint, more: int) -> None:
        """Count more requests as in flight to a server, or fewer with a negative number."""
        with self._lock:
            endpoint.in_flight += more

    def close(self) -> None:
        """Close all connections."""
        self._closed.set()
        for endpoint in self.endpoints:
            endpoint.transport.close()


def _probe(endpoints: Sequence[Endpoint], closed: threading.Event, model: str) -> None:
    while not closed.wait(PROBE_INTERVAL_S):
        until = time.monotonic() + PROBE_TIMEOUT_S
        begun: list[tuple[Endpoint, Reply[bool]]] = []
        for endpoint in endpoints:
            # No failure may end this thread, not even one of the user's function for headers.
            try:
                begun.append((endpoint, endpoint.transport.begin(ModelReady(model), PROBE_TIMEOUT_S)))
            except Exception as exc:
                endpoint.failure = reason(exc, endpoint.url)
        for endpoint, reply in begun:
            try:
                ready = reply.wait(max(until - time.monotonic(), 0.0))
                endpoint.failure = "" if ready else f"{endpoint.url} is not ready to serve model {model}"
            except Exception as exc:
                endpoint.failure = reason(exc, endpoint.url)
