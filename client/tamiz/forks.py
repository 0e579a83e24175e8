"""Forks of the process: none in the midst of a gRPC call.

gRPC makes itself ready for a fork, but only where no thread is calling into it. Otherwise it leaves that out, with a
line on stderr, and the child goes on with the parent's sockets and pollers until one of the two aborts. (grpc/grpc
pull requests 14647 and 41759.)
"""

from __future__ import annotations

import os
import threading
from typing import Any

WAIT_S = 1.0
"""A fork waits so long for the calls under way, and new calls for the fork; then they meet, as they would without."""


class _CallsUnderWay:
    """Counts the gRPC calls of all clients of this process; a context manager around a call that is waited for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._forks = 0

    def begin(self) -> None:
        """A call begins, if need be after the fork that is about to be."""
        with self._changed:
            if self._forks:
                self._changed.wait_for(lambda: not self._forks, WAIT_S)
            self._calls += 1

    def end(self, _: Any = None) -> None:
        """A call has ended."""
        with self._changed:
            self._calls -= 1
            if self._forks:
                self._changed.notify_all()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()

    def before_fork(self) -> None:
        """Wait for the calls, and hold new ones off until `after_fork`."""
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: not self._calls, WAIT_S)

    def after_fork(self) -> None:
        """In the parent."""
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()


calls = _CallsUnderWay()

os.register_at_fork(
    before=calls.before_fork,
    after_in_parent=calls.after_fork,
    # Of the threads that called, waited or held the lock, none is in the child.
    after_in_child=lambda: _CallsUnderWay.__init__(calls),
)
