"""Exchange: requests to one server and their replies, directly or through shared memory."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from datetime import UTC, datetime
from typing import Any, TypeVar

from tritonclient.grpc.model_config_pb2 import ModelConfig as ModelConfigMessage

from ..errors import ClosedError, DeadlineError, ModelNotFoundError, ServerError, suggest
from ..prediction import Provenance
from ..preprocessing import Pixels
from ..served_version import ServedVersion, loaded_versions, read_pinned_version, read_served_version
from ..transports.requests import (
    InferReply,
    ModelConfig,
    ModelInfer,
    ModelStatistics,
    Request,
    ServerReady,
)
from ..transports.shared_memory import SharedMemory
from ..transports.status import ExpiredError
from .call import Call
from .connections import PROBE_TIMEOUT_S, Connections, Endpoint
from .events import OnEvent, RequestAnswered, RequestFailed, RequestSent, notify
from .registration import register
from .reservation import Reservation
from .stats import Counter
from .steps import Flow, Send

R = TypeVar("R")

logger = logging.getLogger("tamiz")

REFRESH_S = 2.0
"""While calls are made, each server is asked this often, in the background, whether a rollout has begun or changed."""

REFRESH_TIMEOUT_S = 5.0


class Exchange:
    """Sends the requests of a client's calls.

    Args:
        model: name of the model.
        connections: the servers of the client.
        memory: shared memory for the images; None sends them through the connection.
        counter: counts the requests that are sent.
        clock: a monotonic clock; returns seconds.
        wall_clock: returns the time in seconds since 1970.
        closed: returns whether the client has been closed.
        on_event: called with each event of a request; None disables events.
        version: the version that the caller chose; None for the one that is live.
    """

    def __init__(
        self,
        model: str,
        connections: Connections,
        memory: SharedMemory | None,
        counter: Counter,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        closed: Callable[[], bool],
        on_event: OnEvent | None,
        version: int | None = None,
    ) -> None:
        self._model = model
        self._version = version
        self._connections = connections
        self._memory = memory
        self._counter = counter
        self._clock = clock
        self._wall_clock = wall_clock
        self._closed = closed
        self._on_event = on_event

    def read_version(self, endpoint: Endpoint, call: Call) -> Flow[ServedVersion]:
        """Read the live version of the model and its spec from a server, and store them in ``endpoint.served``.

        Raises:
            ServerError: the server did not answer, or does not have the model, or the version that the caller chose.
            SpecError: the model has no spec that this client understands.
        """
        config = yield from self.send(endpoint, ModelConfig(self._model), call)
        served = self._choose_version(config, endpoint)
        endpoint.refresh_at = self._clock() + REFRESH_S
        endpoint.served = served
        return served

    def read_version_again(self, endpoint: Endpoint, known: ServedVersion) -> ServedVersion | None:
        """Read the version again, outside of any call, and store it if it or its rollout has changed.

        Args:
            endpoint: the server.
            known: what was read before.

        Returns:
            the version; None if nothing has changed, or the server did not answer, which the next call finds out.
        """
        try:
            config = endpoint.transport.call(ModelConfig(self._model), REFRESH_TIMEOUT_S)
            served = self._choose_version(config, endpoint)
        except Exception as exc:
            logger.info("the configuration of model %s could not be read again: %s", self._model, exc)
            return None
        # A call may have found in the meantime that the version is gone, and read the configuration itself.
        if endpoint.served is not known or served == known:
            return None
        endpoint.served = served
        return served

    def _choose_version(self, config: ModelConfigMessage, endpoint: Endpoint) -> ServedVersion:
        if self._version is None:
            return read_served_version(config)
        served = read_pinned_version(config, self._version)
        if served is None:
            loaded = ", ".join(map(str, loaded_versions(config))) or "none"
            raise ModelNotFoundError(
                f"model {self._model}: {endpoint.url} does not serve version {self._version}; it serves {loaded}",
                model=self._model,
                version=self._version,
                url=endpoint.url,
            )
        return served

    def is_ready(self, endpoint: Endpoint, call: Call) -> Flow[bool]:
        """Whether a server is ready. It is not while it starts or stops, or if it does not answer."""
        try:
            return (yield from self.send(endpoint, ServerReady(), call))
        except ServerError:
            return False

    def name_models(self, error: ModelNotFoundError, endpoint: Endpoint, call: Call) -> Flow[ModelNotFoundError]:
        """The error of an unknown model, completed with the names of the models that the server has."""
        try:
            models = yield from self.send(endpoint, ModelStatistics(), call)
        except ServerError:
            return error
        if self._model in models:
            # It was loaded in the meantime.
            return error
        hint = suggest(self._model, models) or "; the server serves no models"
        return ModelNotFoundError(str(error), model=self._model, url=endpoint.url, remedy=hint)

    def infer(
        self, endpoint: Endpoint, served: ServedVersion, images: Sequence[Pixels], call: Call, attempt: Reservation
    ) -> Flow[InferReply]:
        """Ask a server for the probabilities of prepared images.

        Args:
            endpoint: the server.
            served: the version that the images were prepared for.
            images: the images.
            call: the state of the call.
            attempt: what the call occupies; the request holds it until it has ended.
        """
        with Reservation() as occupied:
            attempt.hold()
            occupied.add(attempt.let_go)
            self._connections.count_in_flight(endpoint, 1)
            occupied.add(self._connections.count_in_flight, endpoint, -1)
            if self._memory is None:
                return (yield from self.send(endpoint, ModelInfer(served, images), call, occupied))
            # Large enough for a full batch, so that later requests can reuse the region.
            region = self._memory.lease(max(len(images), served.max_batch_size) * images[0].nbytes)
            occupied.add(self._memory.give_back, region)
            region.write(images)
            send = functools.partial(self.send, endpoint, call=call, occupied=occupied)
            yield from register(endpoint.url, region, self._memory.regions, send)
            return (yield from self.send(endpoint, ModelInfer(served, images, region=region.name), call, occupied))

    def provenance(self, endpoint: Endpoint, served: ServedVersion) -> Provenance:
        """The provenance of the predictions of a reply that has just arrived."""
        return Provenance(
            served.model,
            served.version,
            served.onnx_sha256,
            served.spec_sha256,
            endpoint.url,
            datetime.fromtimestamp(self._wall_clock(), UTC),
        )

    def send(self, endpoint: Endpoint, request: Request[R], call: Call, occupied: Reservation | None = None) -> Flow[R]:
        """Send a request within the deadline of its call.

        Args:
            endpoint: the server.
            request: the request.
            call: the state of the call.
            occupied: what the request occupies until it has ended; None where it occupies nothing.

        Raises:
            ServerError: the request failed.
            ClosedError: the client was closed while the request was in flight.
        """
        timeout_s = self._request_timeout(endpoint, call)
        sent_at: float | None = None

        def on_sent() -> None:
            nonlocal sent_at
            sent_at = self._clock()
            if isinstance(request, ModelInfer) and endpoint.clock_agrees:
                request.deadline_us = round((self._wall_clock() + timeout_s) * 1e6)
            if occupied is not None:
                occupied.hold()
            self._counter.count("requests")
            if self._on_event is not None:
                notify(self._on_event, RequestSent(*_event_fields(endpoint, request, call), timeout_s))

        def on_ended() -> None:
            if occupied is not None:
                occupied.let_go()

        def on_failed(error: Exception) -> None:
            if self._on_event is not None and sent_at is not None:
                seconds = self._clock() - sent_at
                notify(self._on_event, RequestFailed(*_event_fields(endpoint, request, call), seconds, error))

        try:
            reply: R = yield Send(endpoint.transport, request, timeout_s, on_sent, on_ended)
        except GeneratorExit:
            on_failed(CancelledError("the caller stopped waiting"))
            raise
        except Exception as exc:
            on_failed(exc)
            # Another thread may have closed the client; which exception that causes depends on the transport.
            self.check_open()
            if isinstance(exc, ExpiredError):
                self._compare_clocks(endpoint, request, exc)
            if isinstance(exc, ServerError):
                # A request about shared memory, or about the server, names no model; the call does.
                exc.model = exc.model or self._model
            raise
        # "ready" means that the last request was answered; a reply of "not ready" is handled by the caller.
        endpoint.answered, endpoint.failure = True, ""
        if self._on_event is not None and sent_at is not None:
            seconds = self._clock() - sent_at
            notify(self._on_event, RequestAnswered(*_event_fields(endpoint, request, call), seconds))
        return reply

    def check_open(self) -> None:
        """Refuse to go on after the client was closed.

        Raises:
            ClosedError: the client was closed.
        """
        if self._closed():
            raise ClosedError(f"the client of model {self._model} is closed")

    def time_left(self, endpoint: Endpoint | None, call: Call) -> float:
        """Seconds until the deadline of a call.

        Raises:
            ServerError: the deadline has passed; this is the error of the last failed attempt, or a DeadlineError if no
                attempt failed.
        """
        left = call.deadline - self._clock()
        if left > 0:
            return left
        if call.last_failure is not None:
            raise call.last_failure
        url = endpoint.url if endpoint is not None else ",".join(each.url for each in self._connections.endpoints)
        raise DeadlineError(f"model {self._model}: the call to {url} timed out", model=self._model, url=url)

    def _request_timeout(self, endpoint: Endpoint, call: Call) -> float:
        left = self.time_left(endpoint, call)
        if not self._connections.another_ready(endpoint):
            # Leave time for the live version if the candidate hangs.
            return left / 2 if call.asks_candidate else left
        # Leave time to try another server if this one hangs; a server that has never answered gets at most
        # PROBE_TIMEOUT_S.
        return left / 2 if endpoint.answered else min(left / 2, PROBE_TIMEOUT_S)

    def _compare_clocks(self, endpoint: Endpoint, request: Request[Any], error: ExpiredError) -> None:
        """Return if the server's clock is ahead of the client's, so that it took the request for late too early.

        Raises:
            DeadlineError: the deadline has really passed.
        """
        if not isinstance(request, ModelInfer) or request.deadline_us is None:
            ahead = False
        else:
            ahead = self._wall_clock() * 1e6 < request.deadline_us
        if not ahead:
            raise DeadlineError(str(error), model=error.model, version=error.version, url=error.url) from error
        endpoint.clock_agrees = False


def _event_fields(endpoint: Endpoint, request: Request[Any], call: Call) -> tuple[int, str, str, str, int | None, int]:
    return call.number, endpoint.url, request.method, request.model, request.version, len(request.images)
