"""What every transport provides: one connection to one server that carries the requests of `tamiz.transports.requests`.

A transport sends a request in two ways, because each client is fastest with one of them: `Transport.call` waits in the
calling thread, `Transport.begin` returns a future. `AsyncClient` uses these futures, not ``grpc.aio``: all event loops
of a process share the poller of ``grpc.aio``, which wakes every loop for each reply (grpc/grpc issue 25364).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .requests import Request

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class CallFuture(Protocol[R_co]):
    """A request in flight: what `concurrent.futures.Future` and gRPC's futures have in common."""

    def add_done_callback(self, function: Callable[[Any], None], /) -> object:
        """Call a function, in any thread, when the request has ended."""

    def cancel(self) -> bool:
        """Cancel the request; the server is notified."""

    def result(self) -> R_co:
        """Wait for the reply and return it, or raise the error of the request."""


class Transport(Protocol):
    """A connection to one server. All methods may be called from any thread.

    Attributes:
        url: URL of the server.
    """

    url: str

    def call(self, request: Request[R], timeout_s: float) -> R:
        """Send a request and wait for the reply.

        Raises:
            ServerError: the request failed; see the subclasses.
        """

    def begin(self, request: Request[R], timeout_s: float) -> CallFuture[R]:
        """Send a request; the future's ``result`` raises what `call` raises."""

    def close(self) -> None:
        """Close the connection; requests in flight fail."""
