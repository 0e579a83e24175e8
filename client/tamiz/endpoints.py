"""Endpoints: the servers that a client may ask, and which of them it asks next."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tritonclient.grpc import service_pb2

from .served_version import ServedVersion
from .transport import Address, CallFuture, Transport

PROBE_EVERY_S = 0.5
"""Each of several servers is asked so often whether it is ready."""

PROBE_TIMEOUT_S = 1.0


class Endpoint:
    """One server.

    Attributes:
        url: of this server alone.
        transport: the connection to it.
        served: the version of the model that it answers with; None until it is read, and when it is gone. It belongs
            to the server and not to the client: in a rollout one server has the new version and the next has not.
        ready: whether it answered last time.
        answered: whether it ever did.
        in_flight: inference requests under way to it.
    """

    def __init__(self, url: str, transport: Transport) -> None:
        self.url = url
        self.transport = transport
        self.served: ServedVersion | None = None
        self.ready = True
        self.answered = False
        self.in_flight = 0


class Endpoints:
    """The servers behind one URL.

    With several, a thread asks each twice a second whether it is ready. (Triton's health service has no ``Watch``,
    so gRPC's own health checking would take a server that is loading for a healthy one.)

    Args:
        address: where they are.
        model: whose readiness counts.
        open_transport: makes the connection to one of the address's targets.
    """

    def __init__(self, address: Address, model: str, open_transport: Callable[[str], Transport]) -> None:
        self.several = address.several
        self.all = tuple(
            Endpoint(url, open_transport(target)) for url, target in zip(address.urls, address.targets, strict=True)
        )
        self._lock = threading.Lock()
        self._turn = itertools.count()
        self._closed = threading.Event()
        if len(self.all) > 1:
            # Without a reference to this object: the thread ends when its client is closed, or garbage.
            threading.Thread(
                target=_probe, args=(self.all, self._closed, model), name="tamiz-probe", daemon=True
            ).start()

    def pick(self, avoid: Endpoint | None = None) -> Endpoint:
        """The ready server with the fewest requests under way; among equals each in turn.

        Args:
            avoid: a server that just failed, which is picked only where no other is ready.
        """
        if len(self.all) == 1:
            return self.all[0]
        with self._lock:
            start = next(self._turn) % len(self.all)
            in_turn = self.all[start:] + self.all[:start]
            return min(in_turn, key=lambda endpoint: (not endpoint.ready, endpoint is avoid, endpoint.in_flight))

    def another_ready(self, endpoint: Endpoint) -> bool:
        """Whether some other server is ready."""
        return any(other.ready for other in self.all if other is not endpoint)

    @contextmanager
    def asked(self, endpoint: Endpoint) -> Iterator[None]:
        """Count a request as under way for as long as the block runs."""
        with self._lock:
            endpoint.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                endpoint.in_flight -= 1

    def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        for endpoint in self.all:
            endpoint.transport.close()


def _probe(endpoints: Sequence[Endpoint], closed: threading.Event, model: str) -> None:
    request = service_pb2.ModelReadyRequest(name=model)
    while not closed.wait(PROBE_EVERY_S):
        begun: list[tuple[Endpoint, CallFuture]] = []
        for endpoint in endpoints:
            # Whatever fails, the caller's function for headers too, must not end this thread.
            try:
                begun.append((endpoint, endpoint.transport.begin("ModelReady", request, PROBE_TIMEOUT_S)))
            except Exception:
                endpoint.ready = False
        for endpoint, future in begun:
            try:
                endpoint.ready = future.result().ready
            except Exception:
                endpoint.ready = False
