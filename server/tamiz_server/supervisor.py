"""Supervision of an embedded server: a server that crashed is started again, an instance that died is brought back."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from tamiz.errors import TamizError, TritonError

from .control import Control
from .instances import Instance, Instances, bring_back, missing_instances
from .process import describe_exit

logger = logging.getLogger("tamiz")

RESTARTS = 5
"""How often within ten minutes a crashed server is started again."""

WINDOW_S = 600.0

_POLL_INTERVAL_S = 0.25
_SCAN_INTERVAL_S = 2.0
_RETRY_INTERVAL_S = 1.0


class RestartLimit:
    """A limit of restarts within ten minutes.

    Args:
        restarts: how many restarts are allowed within ten minutes.
        clock: gives the time in seconds.
    """

    def __init__(self, restarts: int = RESTARTS, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._restarts = restarts
        self._times: deque[float] = deque()

    def __str__(self) -> str:
        return f"it is restarted at most {self._restarts} times within {WINDOW_S / 60:g} minutes"

    def allows(self) -> bool:
        """Whether another restart is allowed now; if so, it is counted."""
        now = self._clock()
        while self._times and now - self._times[0] >= WINDOW_S:
            self._times.popleft()
        if len(self._times) >= self._restarts:
            return False
        self._times.append(now)
        return True


class Process(Protocol):
    """The process of a server; see `tamiz_server.process.ServerProcess`."""

    @property
    def pid(self) -> int:
        """Process ID."""

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the process ends; return its exit status, or None after so many seconds."""


class Supervisor:
    """A thread that watches a server from when it is ready until `stop`.

    Args:
        process: process of the server.
        restart: starts the server again on the same ports with the same key, and returns its process when it is ready.
            Raises `TamizError`.
        connect: connects to the server.
        last_words: reads the last line of the server's log.
        on_progress: called with one line of text when the server crashed or was restarted, or an instance died;
            an exception that it raises is logged.
        limit: how often the server is restarted.

    Attributes:
        restarting: whether the server crashed and is not ready yet.
        failure: why the server is given up; None if it is not.
    """

    def __init__(
        self,
        process: Process,
        *,
        restart: Callable[[], Process],
        connect: Callable[[], Control],
        last_words: Callable[[], str],
        on_progress: Callable[[str], None],
        limit: RestartLimit,
    ) -> None:
        self._process = process
        self._restart = restart
        self._connect = connect
        self._last_words = last_words
        self._on_progress = on_progress
        self._limit = limit
        self._instance_limits: defaultdict[str, RestartLimit] = defaultdict(RestartLimit)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tamiz-supervisor", daemon=True)
        self.failure: TritonError | None = None
        self.restarting = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin_stop(self) -> None:
        """Have the thread ignore from now on that the server ends."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended, after `begin_stop` and after the server's process has ended."""
        self._thread.join()

    def wait(self) -> None:
        """Wait until the server is given up or stopped.

        Raises:
            TritonError: the server is given up, because it crashed too often or could not be started again.
        """
        self._ended.wait()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                status = self._watch(self._process)
                if self._stopping.is_set():
                    return
                self._restart_after(f"Triton {describe_exit(status)} after {_duration(time.monotonic() - began)}")
        except TritonError as exc:
            self.failure = exc
        except Exception as exc:
            # wait() must not take the end of this thread for a server that was stopped.
            self.failure = TritonError(f"Triton is no longer supervised: {type(exc).__name__}: {exc}")
        finally:
            self._ended.set()

    def _watch(self, process: Process) -> int:
        """Bring instances back until the process ends; return its exit status."""
        self.restarting = False
        instances = Instances(process.pid)
        running = instances.running()
        lost: set[Instance] = set()
        scanned = time.monotonic()
        while (status := process.wait(_POLL_INTERVAL_S)) is None:
            if not lost and instances.still_run() and time.monotonic() - scanned < _SCAN_INTERVAL_S:
                continue
            scanned = time.monotonic()
            before, running = running, instances.running()
            lost = (lost | before) - running
            # While instances come and go, a model is being loaded or unloaded.
            if lost and running == before:
                self._bring_back(lost, running)
                running, lost = instances.running(), set()
        self.restarting = True
        return status

    def _bring_back(self, lost: set[Instance], running: set[Instance]) -> None:
        # A server that cannot be asked has crashed or is being stopped, which is noticed elsewhere.
        with suppress(TamizError), self._connect() as control:
            missing = missing_instances(lost, running, control)
            for model, instance in {instance.model: instance for instance in missing}.items():
                died = f"an instance of model {model} died"
                limit = self._instance_limits[model]
                if not limit.allows():
                    self._report(f"{died} and is not brought back: {limit}; see Triton's log")
                    continue
                self._report(f"{died} (version {instance.version}); loading the model again")
                if (problem := bring_back(instance, control)) and not self._stopping.is_set():
                    self._report(f"{died} and is not brought back: {problem}; start the server again")

    def _restart_after(self, end: str) -> None:
        """Start the server again.

        Raises:
            TritonError: the limit is reached.
        """
        while not self._stopping.is_set():
            if not self._limit.allows():
                self._report(f"{end}; given up")
                raise TritonError(f"{end}; {self._limit}: {self._last_words()}")
            self._report(f"{end}; restarting")
            began = time.monotonic()
            try:
                self._process = self._restart()
            except TamizError as exc:
                end = str(exc)
                self._stopping.wait(_RETRY_INTERVAL_S)
            else:
                self._report(f"Triton is ready again after {_duration(time.monotonic() - began)}")
                return

    def _report(self, line: str) -> None:
        try:
            self._on_progress(line)
        except Exception:
            # A closed terminal, for instance, must not end the supervision.
            logger.exception("on_progress failed for the line: %s", line)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
