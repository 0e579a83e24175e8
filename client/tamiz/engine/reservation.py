"""Reservation: what a request occupies, such as a slot of a concurrency limit, until the server is done with it."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Self


class Reservation:
    """Resources that are given back when everybody who holds them has let go.

    The call that sends a request holds them as a context manager, and so does each request that it sends: after a
    timeout the server may still process the request, and its resources stay occupied until it has ended.

    Attributes:
        resources: gives the resources back; closed by the last holder, or earlier by hand.
    """

    def __init__(self) -> None:
        self.resources = ExitStack()
        self._lock = threading.Lock()
        self._holders = 1

    def hold(self) -> None:
        """Add a holder; `let_go` follows."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """Remove a holder."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
