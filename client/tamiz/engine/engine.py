"""The engine: everything that a client holds, and how it is handled at a fork, at close and at exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ..threads import Threads
from ..transports import Transport, open_transport
from ..transports.requests import SystemSharedMemoryUnregister
from ..transports.shared_memory import SharedMemory
from .classification import Classification
from .concurrency import CORES, AdaptiveLimit, Limits
from .connections import Connections
from .exchange import Exchange
from .settings import Settings
from .stats import Counter

_UNREGISTER_TIMEOUT_S = 1.0
"""Time for unregistering shared memory from all servers when a client is closed."""


class Engine:
    """The parts that both clients share.

    Args:
        settings: the settings of the client.
        connect: opens a transport to the server of a URL; None opens real ones.
        clock: a monotonic clock; returns seconds.
        wall_clock: returns the time in seconds since 1970.
        in_background: calls a function that must not delay a call; None calls it in a thread.

    Attributes:
        settings: the settings of the client.
        connections: the servers.
        classification: the calls.
        limits: the concurrency limits that every `classify_many` of the client shares, so that each begins with what
            the one before found to be best.
        counter: counts what the client does.
        workers: threads that prepare the images of an AsyncClient; started when first used.

    Raises:
        UsageError: a certificate cannot be read.
        MissingExtraError: the URL is an HTTP one, and the extra ``http`` is not installed.
        SharedMemoryError: this machine has no shared memory.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connect: Callable[[str], Transport] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        in_background: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.settings = settings
        # Nothing below may refer to the engine, not even by a bound method: a client that is dropped without `close`
        # must be freed at once, with its connections, and not wait for the garbage collector.
        self._closed = threading.Event()
        self._connect = connect or partial(_open_transport, settings)
        self._clock = clock
        self._wall_clock = wall_clock
        self._in_background = in_background
        self._open()
        _engines.add(self)
        if settings.shared_memory:
            # A process that `multiprocessing` has forked ends without running the finalizers of `weakref`.
            from multiprocessing import util

            _disconnect_at_process_exit(self)
            util.register_after_fork(self, _disconnect_at_process_exit)

    def _open(self) -> None:
        """Create everything that two processes must not share."""
        settings = self.settings
        self.counter = Counter()
        self.limits = Limits()
        self._used_limits: weakref.WeakSet[Limits] = weakref.WeakSet()
        self.workers = ThreadPoolExecutor(CORES, thread_name_prefix="tamiz")
        self.connections = Connections(
            settings.address, settings.model, self._connect or partial(_open_transport, settings)
        )
        self.memory = SharedMemory() if settings.shared_memory else None
        self._exchange = Exchange(
            settings.model,
            self.connections,
            self.memory,
            self.counter,
            clock=self._clock,
            wall_clock=self._wall_clock,
            closed=self._closed.is_set,
            on_event=settings.on_event,
            version=settings.version,
        )
        threads = Threads()
        self.classification = Classification(
            self.connections,
            self._exchange,
            self.counter,
            timeout_s=lambda: settings.timeout_s,
            provenance=settings.provenance,
            clock=self._clock,
            on_event=settings.on_event,
            forget_regions=self.memory.forget_server if self.memory is not None else lambda url: None,
            in_background=self._in_background or threads.run,
        )
        # Runs when the client is closed or garbage-collected.
        self._disconnect = weakref.finalize(self, _disconnect, self.connections, self.memory, threads, os.getpid())

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._closed.is_set()

    def limits_for(self, in_flight: int | None) -> Limits:
        """The concurrency limits of one `classify_many`; None adapts the limit of the requests in flight."""
        limits = self.limits if in_flight is None else Limits(in_flight=AdaptiveLimit(in_flight))
        self._used_limits.add(limits)
        return limits

    def check_open(self) -> None:
        """See `Exchange.check_open`."""
        self._exchange.check_open()

    def close(self) -> None:
        """Close the connections, without waiting long for a server that hangs."""
        self.mark_closed()
        self.disconnect()

    def mark_closed(self) -> None:
        """Refuse new calls from now on; the part of `close` that does not touch the network."""
        self._closed.set()
        _engines.discard(self)
        for limits in list(self._used_limits):
            limits.preparing.admit_all()
            limits.in_flight.admit_all()
        self.workers.shutdown(wait=False, cancel_futures=True)

    def disconnect(self) -> None:
        """Close the connections; the part of `close` that may take a second."""
        self._disconnect()

    def reopen_after_fork(self) -> None:
        """In the child of a fork: leave the connections to the parent, and open new ones."""
        # Kept and never closed: closing would wait for threads that this process does not have.
        _inherited.append(vars(self).copy())
        if self.memory is not None:
            self.memory.disown()
        latest = self.classification.latest
        self._open()
        # What is known about the model stays true in the child; each server is asked again all the same.
        self.classification.latest = latest


def _open_transport(settings: Settings, url: str) -> Transport:
    return open_transport(url, tls=settings.tls, headers=settings.headers, key=settings.key)


def _disconnect(connections: Connections, memory: SharedMemory | None, threads: Threads, process: int) -> None:
    if os.getpid() != process:
        # These are the connections of the parent of a fork.
        return
    threads.close()
    if memory is not None:
        until = time.monotonic() + _UNREGISTER_TIMEOUT_S
        for region in memory.close():
            for endpoint in connections.endpoints:
                if endpoint.url in region.registered_with:
                    # Whatever goes wrong here, the rest must be closed.
                    with contextlib.suppress(Exception):
                        left = max(until - time.monotonic(), 0.01)
                        endpoint.transport.call(SystemSharedMemoryUnregister(region.name), left)
    connections.close()


def _disconnect_at_process_exit(engine: Engine) -> None:
    from multiprocessing import util

    util.Finalize(engine, engine._disconnect, exitpriority=0)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_inherited: list[dict[str, Any]] = []


@atexit.register
def _close_all() -> None:
    # Before `threads` waits for all threads, because this module was imported later: none then waits for a server.
    for engine in list(_engines):
        engine.close()


def _reopen_all() -> None:
    for engine in _engines:
        engine.reopen_after_fork()


os.register_at_fork(after_in_child=_reopen_all)
