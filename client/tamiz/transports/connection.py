"""Connection: one gRPC channel or one pool of HTTP connections, and the requests in flight on it.

A caller may stop waiting for a reply at any time, but a request must not always be cancelled then: a Triton older than
2.53 may crash when a gRPC request is cancelled, or its deadline passes, while it is being processed (server#7368). To
such a server the request is left to itself. It ends with the server's reply, at the latest `LEFTOVER_S` after the
caller's timeout, and its connection stays open until then.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import UnavailableError
from .reply import Reply
from .requests import Request

R = TypeVar("R")

LEFTOVER_S = 60.0
"""Time for a request to end after its caller's timeout, if the server cannot cancel requests."""

_NEXT_S = 1.0
"""Shortest time between two connections, so that calls with a tiny timeout do not open one after another."""

_PATIENCE_S = 5.0
"""The same while the connection has not brought any reply: time to establish it, also in an outage."""


class Connection(ABC):
    """One connection to a server. All methods may be called from any thread.

    Args:
        url: URL of the server.

    Attributes:
        url: URL of the server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened_at = time.monotonic()
        self._answered_at: float | None = None
        # Reentrant, because the garbage collector may close the connection at any point of a thread.
        self._lock = threading.RLock()
        self._in_flight: set[Reply[Any]] = set()
        self._retired = False
        self._closed = False

    @abstractmethod
    def send(self, reply: Reply[Any]) -> None:
        """Send the request of a reply without waiting, and call `Reply.end` when the request has ended."""

    def send_for_thread(self, reply: Reply[Any]) -> None:
        """`send` for a caller that waits in its thread, where there is a faster way for that."""
        self.send(reply)

    @property
    @abstractmethod
    def cancels(self) -> bool:
        """Whether the server is known to survive cancelled requests."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; called once. Requests in flight are cancelled."""

    @property
    def closed(self) -> bool:
        """Whether the connection was closed."""
        return self._closed

    def add(self, request: Request[R], timeout_s: float, on_ended: Callable[[], None]) -> Reply[R] | None:
        """Count a request as in flight, before it is sent, and return its reply; None if the connection is retired.

        Args:
            request: the request.
            timeout_s: seconds that the caller will wait for the reply.
            on_ended: called once, in any thread, when the request has ended.
        """
        reply = Reply(request, timeout_s, self, on_ended)
        with self._lock:
            if self._retired:
                return None
            self._in_flight.add(reply)
        return reply

    def ended(self, reply: Reply[Any], *, answered: bool) -> None:
        """Count a request as ended.

        Args:
            reply: the reply to the request.
            answered: whether the server answered it.
        """
        with self._lock:
            self._in_flight.discard(reply)
            if answered:
                self._answered_at = time.monotonic()
        if self._retired:
            self._close_if_done()

    def expired(self, reply: Reply[Any]) -> None:
        """Retire the connection if nothing has come back since a request was sent whose caller's timeout has passed."""
        if self._answered_at is not None and self._answered_at >= reply.sent_at:
            return
        age = time.monotonic() - self._opened_at
        if age >= (_PATIENCE_S if self._answered_at is None else _NEXT_S):
            self.retire()

    def retire(self, *, fail: bool = False) -> None:
        """Close the connection when no request is in flight on it any more, or at once if the server bears that.

        Args:
            fail: end all waiting callers with an UnavailableError; otherwise they keep waiting for their replies.
        """
        with self._lock:
            self._retired = True
            waiting = list(self._in_flight)
        if fail:
            for reply in waiting:
                reply.fail(UnavailableError(f"the connection to {self.url} was closed", url=self.url))
                reply.abandon()
        self._close_if_done(at_once=fail and self.cancels)

    def _close_if_done(self, *, at_once: bool = False) -> None:
        with self._lock:
            if not self._retired or self._closed or (self._in_flight and not at_once):
                return
            self._closed = True
        self.close()
