"""What `Client` and `AsyncClient` have in common: their arguments, and properties that never touch the network."""

from __future__ import annotations

from typing import Literal, NoReturn, TypeAlias

from .arguments import check_seconds
from .engine.connections import EndpointState
from .engine.engine import Engine
from .engine.events import OnEvent
from .engine.settings import Settings
from .engine.stats import Stats
from .errors import UsageError
from .routing import Rollout
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
        version: int | None = None,
        provenance: bool = False,
    ) -> None:
        self._engine = Engine(
            Settings(url, model, timeout_s, headers, tls, key, shared_memory, on_event, version, provenance)
        )

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            f"a {type(self).__name__} cannot be pickled or copied: its connections and threads belong to this process; "
            "create one in each process"
        )

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
        """Timeout of a whole call in seconds, retries included. A new value applies to calls that start afterwards."""
        return self._engine.settings.timeout_s

    @timeout_s.setter
    def timeout_s(self, seconds: float) -> None:
        check_seconds("timeout_s", seconds)
        self._engine.settings.timeout_s = float(seconds)

    @property
    def spec(self) -> ModelSpec:
        """The spec of the version that was read last.

        Like `live_version` and `max_batch_size`, this does not touch the network. The value is read when the client is
        entered with ``with`` (or ``async with``), by `refresh`, and by the first call.

        Raises:
            UsageError: nothing has been read from a server yet.
        """
        return self._served.spec

    @property
    def live_version(self) -> int:
        """The version that was read last; see `spec`.

        During a rollout, servers may have different live versions; `Prediction.version` is the one that answered.
        """
        return self._served.version

    @property
    def rollout(self) -> Rollout | None:
        """The candidate beside the live version, and what it is sent; None if there is none. See `spec`."""
        return self._served.rollout

    @property
    def max_batch_size(self) -> int:
        """The largest number of images that the model accepts in one request; see `spec`."""
        return self._served.max_batch_size

    @property
    def stats(self) -> Stats:
        """Counts of what the client has done so far, retries included."""
        return self._engine.counter.stats

    @property
    def in_flight_limit(self) -> int:
        """The current limit of concurrent requests, as tuned by `classify_many`."""
        return self._engine.limits.in_flight.limit

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """A snapshot of the state of each server in the URL."""
        return tuple(endpoint.state for endpoint in self._engine.connections.endpoints)

    @property
    def _served(self) -> ServedVersion:
        served = self._engine.classification.latest
        if served is None:
            raise UsageError(
                f"the spec of model {self.model} has not been read yet; use the client in a `with` block, or call "
                "refresh()"
            )
        return served
