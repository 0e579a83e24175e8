"""Threads that the end of the process does not wait for: they make calls that may be stuck in a server for long."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable


class Threads:
    """Calls functions in daemon threads; as many as functions run at a time, and each is used again.

    A `concurrent.futures.ThreadPoolExecutor` would wait for its threads when the process ends.

    Args:
        most: the largest number of threads; further functions wait for one. None does not limit them.
    """

    def __init__(self, most: int | None = None) -> None:
        self._functions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Its length is the number of idle threads; a semaphore of `threading` is several times slower.
        self._idle: deque[None] = deque()
        self._most = most
        self._started = 0

    def run(self, function: Callable[[], None]) -> None:
        """Call a function, which must not raise, in one of the threads."""
        try:
            self._idle.pop()
        except IndexError:
            if self._most is None or self._started < self._most:
                self._started += 1
                threading.Thread(target=self._work, name="tamiz-call", daemon=True).start()
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
