"""The settings of a client, checked when it is created."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import SupportsFloat

from ..errors import UsageError
from ..transports import Address, Headers, Tls, parse_url, read_headers
from .events import OnEvent


@dataclass
class Settings:
    """The arguments of `tamiz.Client`, which documents them.

    Raises:
        UsageError: a setting is wrong.
    """

    url: str
    model: str
    timeout_s: float
    headers: Headers
    tls: Tls | None
    key: str | None
    shared_memory: bool
    on_event: OnEvent | None

    def __post_init__(self) -> None:
        check_timeout(self.timeout_s)
        if not isinstance(self.url, str):
            raise UsageError(f"url: a {type(self.url).__name__}; give a string such as grpc://host:port")
        if not isinstance(self.model, str) or not self.model:
            raise UsageError(f"model: {self.model!r}; give the name of a model")
        if self.tls is not None and not isinstance(self.tls, Tls):
            raise UsageError(f"tls: a {type(self.tls).__name__}; give a tamiz.Tls(ca=…)")
        if self.on_event is not None and not callable(self.on_event):
            raise UsageError(f"on_event: a {type(self.on_event).__name__}; give a function that takes an event")
        if not callable(self.headers):
            read_headers(self.headers)
        if self.key is not None:
            read_headers({"key": self.key})
        self.timeout_s = float(self.timeout_s)
        self.address: Address = parse_url(self.url, self.tls)


def check_timeout(timeout_s: object) -> None:
    """Check a timeout.

    Raises:
        UsageError: it is not a finite number greater than 0.
    """
    try:
        seconds = float(timeout_s) if isinstance(timeout_s, SupportsFloat) else 0.0
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise UsageError(f"timeout_s: {timeout_s!r}; give a finite number of seconds greater than 0")
