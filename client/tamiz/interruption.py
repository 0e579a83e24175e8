"""Signals that end a command as Ctrl-C does, so that it cleans up behind itself and prints how to continue."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupted_by(*numbers: signal.Signals) -> Iterator[None]:
    """Raise `KeyboardInterrupt` in the main thread on the first of the given signals, and ignore those after it.

    A second signal must not interrupt the clean-up that the first one began. A signal that this process was started to
    ignore stays ignored, such as SIGHUP below ``nohup``.
    """
    previous = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for handled in previous:
            signal.signal(handled, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in previous:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
