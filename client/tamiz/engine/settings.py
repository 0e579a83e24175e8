"""The settings of a client, checked when it is created."""

from __future__ import annotations

from dataclasses import dataclass

from ..arguments import check_flag, check_function, check_seconds, check_text, check_whole
from ..transports import Address, Headers, Tls, check_key, parse_url, read_headers
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
    version: int | None = None
    provenance: bool = False

    def __post_init__(self) -> None:
        check_seconds("timeout_s", self.timeout_s)
        check_text("model", self.model, "the name of a model")
        if self.version is not None:
            check_whole("version", self.version)
            self.version = int(self.version)
        if self.on_event is not None:
            check_function("on_event", self.on_event, "a function that takes an event")
        if not callable(self.headers):
            read_headers(self.headers)
        if self.key is not None:
            check_key(self.key)
        check_flag("shared_memory", self.shared_memory)
        check_flag("provenance", self.provenance)
        self.timeout_s = float(self.timeout_s)
        self.address: Address = parse_url(self.url, self.tls)
