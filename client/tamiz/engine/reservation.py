"""Reservation: what a request occupies, such as a slot of a concurrency limit, until the server is done with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self


class Reservation:
    """Resources that are given back when everybody who holds them has let go.

    The call that sends a request holds them as a context manager, and so does each request that it sends: after a
    timeout the server may still process the request, and its resources stay occupied until it has ended.
    """

    def __init__(self) -> None:
        self._resources: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._lock = threading.Lock()
        self._holders = 1

    def add(self, give_back: Callable[..., object], *args: object) -> None:
        """Add a resource.

        Args:
            give_back: gives the resource back; must not raise.
            args: the arguments of the function.
        """
        self._resources.append((give_back, args))

    def hold(self) -> None:
        """Add a holder; `let_go` follows."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """Remove a holder; after the last one, the resources are given back."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.give_back()

    def give_back(self) -> None:
        """Give all resources back now, the last one first."""
        while self._resources:
            give_back, args = self._resources.pop()
            give_back(*args)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
