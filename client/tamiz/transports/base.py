"""Transport: how the requests of `tamiz.transports.requests` reach one server, over one connection after another.

Each client waits in the way that is fastest for it: `Transport.call` in the calling thread, `Transport.begin` with a
future. `AsyncClient` uses these futures, not ``grpc.aio``: all event loops of a process share the poller of
``grpc.aio``, which wakes every loop for each reply (grpc/grpc issue 25364).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ..errors import ClosedError
from .connection import Connection
from .reply import Reply
from .requests import Request

R = TypeVar("R")


class Transport:
    """Sends requests to one server. All methods may be called from any thread.

    When a request times out and nothing has come back on the connection since it was sent, a load balancer or firewall
    may have dropped the connection silently. The next request opens another one; the old one is closed when its last
    request has ended.

    Args:
        url: URL of the server.
        connect: opens a connection, which connects with the first request.

    Attributes:
        url: URL of the server.
    """

    def __init__(self, url: str, connect: Callable[[], Connection]) -> None:
        self.url = url
        self._connect = connect
        # Reentrant, because the garbage collector may close the transport at any point of a thread.
        self._lock = threading.RLock()
        self._closed = False
        self._current = connect()
        self._open = [self._current]

    def call(self, request: Request[R], timeout_s: float, on_ended: Callable[[], None] = lambda: None) -> R:
        """Send a request and wait for the reply.

        Args:
            request: the request.
            timeout_s: seconds to wait for the reply.
            on_ended: called once, in any thread, when the request has ended. That may be after this method raised an
                error, because a request that timed out may still be processed by the server.

        Raises:
            ServerError: the request failed; see the subclasses.
            ClosedError: the transport was closed before.
        """
        return self._send(request, timeout_s, on_ended, for_thread=True).wait(timeout_s)

    def begin(self, request: Request[R], timeout_s: float, on_ended: Callable[[], None] = lambda: None) -> Reply[R]:
        """Send a request and return the future of its reply, which raises what `call` raises.

        The caller calls `Reply.expire` when the timeout has passed.
        """
        return self._send(request, timeout_s, on_ended, for_thread=False)

    def close(self) -> None:
        """Close the connection. Calls in flight fail at once; a server that may not be disturbed finishes them."""
        with self._lock:
            self._closed = True
            connections = self._open
        for connection in connections:
            connection.retire(fail=True)

    def _send(
        self,
        request: Request[R],
        timeout_s: float,
        on_ended: Callable[[], None],
        *,
        for_thread: bool,
    ) -> Reply[R]:
        try:
            connection, reply = self._add(request, timeout_s, on_ended)
        except BaseException:
            on_ended()
            raise
        try:
            if for_thread:
                connection.send_for_thread(reply)
            else:
                connection.send(reply)
        except BaseException as exc:
            reply.end(error=exc)
            raise
        return reply

    def _add(self, request: Request[R], timeout_s: float, on_ended: Callable[[], None]) -> tuple[Connection, Reply[R]]:
        """Choose the connection of a request; return it and the reply to the request."""
        with self._lock:
            if self._closed:
                raise ClosedError(f"the connection to {self.url} is closed")
            reply = self._current.add(request, timeout_s, on_ended)
            while reply is None:
                self._current = self._connect()
                self._open = [each for each in self._open if not each.closed]
                self._open.append(self._current)
                reply = self._current.add(request, timeout_s, on_ended)
            return self._current, reply
