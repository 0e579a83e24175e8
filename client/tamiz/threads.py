"""Threads that the end of the process hardly waits for: they make calls that may be stuck in a server for long."""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

_END_S = 0.5
"""The longest time that the end of the process waits for the threads."""


class Threads:
    """Calls functions in daemon threads; as many as functions run at a time, and each is used again.

    A `concurrent.futures.ThreadPoolExecutor` would wait for its threads when the process ends, however long they run.

    Args:
        most: the largest number of threads; further functions wait for one. None does not limit them.
        name: the name of the threads.
    """

    def __init__(self, most: int | None = None, *, name: str = "tamiz-call") -> None:
        self._functions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Its length is the number of idle threads; a semaphore of `threading` is several times slower.
        self._idle: deque[None] = deque()
        self._most = most
        self._name = name
        self._started = 0
        _all.add(self)

    def run(self, function: Callable[[], None]) -> None:
        """Call a function, which must not raise, in one of the threads.

        Raises:
            RuntimeError: no thread can be started; the function is not called.
        """
        try:
            self._idle.pop()
        except IndexError:
            if self._most is None or self._started < self._most:
                self._started += 1
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    self._started -= 1
                    raise
                _running.add(thread)
        self._functions.put(function)

    def close(self) -> None:
        """End the threads when all functions have returned; `run` must not be called any more."""
        self._functions.put(None)

    def _work(self) -> None:
        while (function := self._functions.get()) is not None:
            function()
            # Otherwise what the function refers to would live until the next call.
            del function
            self._idle.append(None)
        # For the next thread.
        self._functions.put(None)


_all: weakref.WeakSet[Threads] = weakref.WeakSet()
_running: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End the threads of this process, and wait for them, but not for a function that takes long.

    Python ends a daemon thread at its next attempt to run Python code once the interpreter shuts down. Where C++ called
    it, in OpenCV or gRPC, this aborts the process.
    """
    for threads in list(_all):
        threads.close()
    until = time.monotonic() + _END_S
    for thread in list(_running):
        thread.join(max(0.0, until - time.monotonic()))
