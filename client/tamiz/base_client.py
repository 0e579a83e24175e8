"""What `Client` and `AsyncClient` have in common: their arguments, and properties that never touch the network."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .engine.connections import EndpointState
from .engine.engine import Engine
from .engine.events import OnEvent
from .engine.settings import Settings, check_timeout
from .engine.stats import Stats
from .errors import UsageError
from .served_version import ServedVersion
from .spec import ModelSpec
from .transports import DEFAULT_URL, Headers, Tls

OnError: TypeAlias = Literal["raise", "return"]


class BaseClient:
    """The arguments and properties of both clients; see `tamiz.Client` for the arguments."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str,
        timeout_s: float = 10.0,
        headers: Headers = None,
        tls: Tls | None = None,
        key: str | None = None,
        shared_memory: bool = False,
        on_event: OnEvent | None = None,
    ) -> None:
        self._engine = Engine(Settings(url, model, timeout_s, headers, tls, key, shared_memory, on_event))

    @property
    def url(self) -> str:
        """The URL that the client was created with."""
        return self._engine.settings.url

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._engine.settings.model

    @property
    def timeout_s(self) -> float:
        """Seconds for a whole call; may be changed, and holds for the calls that begin afterwards."""
        return self._engine.settings.timeout_s

    @timeout_s.setter
    def timeout_s(self, seconds: float) -> None:
        check_timeout(seconds)
        self._engine.settings.timeout_s = float(seconds)

    @property
    def spec(self) -> ModelSpec:
        """The spec of the version that was read last.

        Like `live_version` and `max_batch_size` it does not touch the network: entering the client with ``with`` (or
        ``async with``), `refresh` and the first call read it.

        Raises:
            UsageError: nothing was read from a server yet.
        """
        return self._served.spec

    @property
    def live_version(self) -> int:
        """The version that was read last; see `spec`.

        With several servers in a rollout, each may have its own: `Prediction.version` says which one answered.
        """
        return self._served.version

    @property
    def max_batch_size(self) -> int:
        """The largest number of images that the server takes in one request; see `spec`."""
        return self._served.max_batch_size

    @property
    def stats(self) -> Stats:
        """What the client did so far, retries included."""
        return self._engine.counter.stats

    @property
    def in_flight(self) -> int:
        """The limit of requests in flight that `classify_many` has found to be best so far."""
        return self._engine.limits.in_flight.limit

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """A snapshot of each server of the URL."""
        return tuple(endpoint.state for endpoint in self._engine.connections.endpoints)

    @property
    def _served(self) -> ServedVersion:
        served = self._engine.classification.latest
        if served is None:
            raise UsageError(
                f"nothing was read about model {self.model} yet; use the client in a `with` block, or call refresh()"
            )
        return served
