"""Forks of the process: none happens while a gRPC request is in flight.

gRPC prepares itself for a fork only when no thread is inside one of its calls. Otherwise it skips that, with a line on
stderr, and the child goes on with the sockets and pollers of its parent until one of the two processes aborts
(grpc/grpc pull requests 14647 and 41759). So a fork waits for the requests in flight, and new requests for the fork.
"""

from __future__ import annotations

import os
import threading

MAX_WAIT_S = 1.0
"""Longest time that a fork waits for requests in flight, and a new request for a fork, before it goes on regardless."""


class ForkGuard:
    """Counts the gRPC requests in flight in this process, and prevents forks while one is in flight.

    It is a context manager around a request that is waited for; `begin` and `end` are for futures.

    Args:
        max_wait_s: see `MAX_WAIT_S`.
    """

    def __init__(self, max_wait_s: float = MAX_WAIT_S) -> None:
        self._max_wait_s = max_wait_s
        self._changed = threading.Condition()
        self._in_flight = 0
        self._forks = 0

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return self._in_flight

    def begin(self) -> None:
        """Count a request that is about to be sent; wait for a fork that is about to happen."""
        with self._changed:
            if self._forks:
                self._changed.wait_for(lambda: not self._forks, self._max_wait_s)
            self._in_flight += 1

    def end(self, _: object = None) -> None:
        """Count a request as ended."""
        with self._changed:
            self._in_flight -= 1
            if self._forks:
                self._changed.notify_all()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()

    def before_fork(self) -> None:
        """Wait for the requests in flight, and hold new ones back until `after_fork`."""
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: not self._in_flight, self._max_wait_s)

    def after_fork(self) -> None:
        """In the parent process: let requests go on."""
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def reset(self) -> None:
        """In the child process: the threads that sent requests or held the lock do not exist there."""
        ForkGuard.__init__(self, self._max_wait_s)


fork_guard = ForkGuard()
"""The guard of this process, which every gRPC transport uses."""

os.register_at_fork(
    before=fork_guard.before_fork, after_in_parent=fork_guard.after_fork, after_in_child=fork_guard.reset
)
