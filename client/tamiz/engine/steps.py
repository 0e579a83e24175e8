"""Steps: what a call needs done that takes time.

The engine is written once for both clients, as generators that yield a step and receive its result. `Client` carries
steps out in the calling thread, `AsyncClient` on an event loop, a test in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ..transports import Transport
from ..transports.requests import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and wait for the reply, which is the result.

    Attributes:
        transport: the connection to the server.
        request: the request.
        timeout_s: seconds until the request fails with a DeadlineError.
        on_sent: called immediately before the request is sent.
        on_ended: called once after ``on_sent``, when the request has ended, which may be after its timeout.
    """

    transport: Transport
    request: Request[Any]
    timeout_s: float
    on_sent: Callable[[], None]
    on_ended: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Compute:
    """Call a function that keeps a processor busy; its return value is the result."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let some seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a future, such as a slot of a concurrency limit."""

    future: Future[None]


Step: TypeAlias = Send | Compute | Sleep | Wait
Flow: TypeAlias = Generator[Step, Any, T]
"""A generator of steps that returns a ``T``."""
