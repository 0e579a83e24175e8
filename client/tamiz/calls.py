"""What a call does, without the waiting.

It is written once for both clients, as generators that yield each step that takes time; a client carries the step
out, in a thread or on an event loop, and sends back what came of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, SupportsFloat, TypeAlias, TypeVar

import grpc
from tritonclient.grpc import service_pb2

from .endpoints import PROBE_TIMEOUT_S, Endpoint, Endpoints
from .errors import (
    DeadlineError,
    InvalidImageError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
    UsageError,
)
from .prediction import Prediction
from .preprocessing import ImageSource, Pixels, prepare
from .protocol import error_from_rpc, infer_request, read_reply
from .retries import Counter, RetryBudget, Stats, pause
from .served_version import ServedVersion, read_served_version
from .shared_memory import PREFIX, Region, SharedMemory, is_leftover
from .spec import ModelSpec, Preprocessing
from .transport import DEFAULT_URL, Headers, Tls, Transport, open_transport, parse_url, read_headers
from .window import Gate, Window

CORES = len(os.sched_getaffinity(0))

_GOODBYE_S = 1.0
"""Servers that are told good-bye are waited for so long, all together."""

T = TypeVar("T")
Outcome: TypeAlias = Prediction | InvalidImageError

logger = logging.getLogger("tamiz")


@dataclass(frozen=True, slots=True)
class Rpc:
    """A step: call a server."""

    endpoint: Endpoint
    method: str
    request: Any
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """A step: keep a processor busy."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """A step: let some seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A step: wait for a turn at a gate."""

    come: Future[None]


Step: TypeAlias = Rpc | Work | Pause | Turn
Flow: TypeAlias = Generator[Step, Any, T]


@dataclass(frozen=True)
class Lane:
    """The gates through which the batches of `classify_many` go.

    Attributes:
        preparing: of the batches that are prepared, or are and wait for the window: as many as there are
            processors, which bounds both the threads that decode and the memory for decoded images.
        window: of the requests under way.
    """

    preparing: Gate
    window: Window

    def ahead(self) -> int:
        """How many batches may be taken from the source before their outcomes are given.

        Twice as many as can be under way and prepared, so that one slow reply does not keep the others waiting.
        """
        return 2 * (self.preparing.limit + self.window.limit)


@dataclass
class _Attempts:
    """How a call has fared.

    Attributes:
        deadline: of the whole call, by the monotonic clock.
        patient: go on where the retry budget is spent, in the place of giving up.
        failed: attempts that did.
        last: failure that another attempt might mend.
        avoid: the server of the last failure.
        gone: versions that were found gone, with the server's URL.
        told_again: URLs of the servers that were told of a region of shared memory a second time.
    """

    deadline: float
    patient: bool = False
    failed: int = 0
    last: ServerError | None = None
    avoid: Endpoint | None = None
    gone: set[tuple[str, int]] = field(default_factory=set)
    told_again: set[str] = field(default_factory=set)


class Calls:
    """What both clients do; see `Client` for the arguments."""

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
    ) -> None:
        if not isinstance(timeout_s, SupportsFloat) or not 0 < timeout_s < threading.TIMEOUT_MAX:
            raise UsageError(f"timeout_s: {timeout_s!r}; give seconds greater than 0, and not without end")
        if not isinstance(model, str) or not model:
            raise UsageError(f"model: {model!r}; give its name")
        if tls is not None and not isinstance(tls, Tls):
            raise UsageError(f"tls: a {type(tls).__name__}; give a tamiz.Tls(ca=…)")
        self.url = url
        self.model = model
        self.timeout_s = float(timeout_s)
        self._address = parse_url(url, tls)
        self._headers = headers
        if not callable(headers):
            read_headers(headers)
        self._tls = tls
        self._key = key
        self._shared_memory = shared_memory
        self._closed = False
        self._open()
        _clients.add(self)
        if shared_memory:
            # A process of multiprocessing that was forked ends without the finalizers of `weakref`.
            from multiprocessing import util

            _disconnect_at_exit(self)
            util.register_after_fork(self, _disconnect_at_exit)

    def _open(self) -> None:
        """Make all that may not be shared with another process."""

        def connect(target: str) -> Transport:
            return open_transport(self._address.scheme, target, tls=self._tls, headers=self._headers, key=self._key)

        self._endpoints = Endpoints(self._address, self.model, connect)
        self._latest: ServedVersion | None = None
        self._memory = SharedMemory() if self._shared_memory else None
        # Runs when the client is closed, is garbage, or the process ends by itself.
        self._disconnect = weakref.finalize(self, _disconnect, self._endpoints, self._memory, os.getpid())
        # Shared by all `classify_many`, so what was found good of one is where the next begins.
        self._lane = Lane(Gate(CORES), Window())
        # Single calls go through gates that stand open: how many there are is the caller's affair.
        self._open_lane = Lane(Gate(sys.maxsize), Window(sys.maxsize))
        self._budget = RetryBudget()
        self._counter = Counter()

    @property
    def stats(self) -> Stats:
        """What the client did so far, retries included."""
        return self._counter.stats

    @property
    def in_flight(self) -> int:
        """Requests that `classify_many` keeps under way, as far as that was found out."""
        return self._lane.window.limit

    @property
    def spec(self) -> ModelSpec:
        """The spec of the version that the client is pinned to.

        `Client` reads it from the server when first asked for; `AsyncClient`, which cannot wait here, raises
        `UsageError` where nothing was read yet.
        """
        return self._pinned().spec

    @property
    def live_version(self) -> int:
        """The version that the client is pinned to; read as `spec` is.

        With several servers it is the one that was read last; each image's own is `Prediction.version`.
        """
        return self._pinned().version

    @property
    def max_batch_size(self) -> int:
        """Most images that the server takes in one request; read as `spec` is."""
        return self._pinned().max_batch_size

    def _pinned(self) -> ServedVersion:
        raise NotImplementedError

    def _lane_of(self, in_flight: int | None) -> Lane:
        return self._lane if in_flight is None else Lane(Gate(CORES), Window(in_flight))

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the client of model {self.model} is closed")

    def _close(self) -> None:
        self._closed = True
        _clients.discard(self)

    def _refresh(self) -> Flow[ServedVersion]:
        attempts = _Attempts(time.monotonic() + self.timeout_s)
        while True:
            endpoint = self._endpoints.pick(attempts.avoid)
            try:
                served = yield from self._read_served(endpoint, attempts)
                for other in self._endpoints.all:
                    if other is not endpoint:
                        # Read again before it is next asked.
                        other.served = None
                return served
            except ServerError as exc:
                yield from self._recover(exc, endpoint, attempts)

    def _read_served(self, endpoint: Endpoint, attempts: _Attempts) -> Flow[ServedVersion]:
        request = service_pb2.ModelConfigRequest(name=self.model)
        reply = yield from self._call(endpoint, "ModelConfig", request, attempts)
        self._latest = endpoint.served = read_served_version(reply.config)
        return endpoint.served

    def _classify(
        self, images: Sequence[ImageSource], top_k: int, lane: Lane | None = None, position: int = 0
    ) -> Flow[list[Outcome]]:
        if top_k < 1:
            raise UsageError(f"top_k: {top_k}; give 1 or more")
        patient, lane = lane is not None, lane or self._open_lane
        yield from _enter(lane.preparing)
        preparing = True
        attempts = _Attempts(time.monotonic() + self.timeout_s, patient)
        prepared: list[Pixels | InvalidImageError] = []
        prepared_for: Preprocessing | None = None
        self._budget.earn()
        self._counter.count(calls=1)
        try:
            while True:
                endpoint = self._endpoints.pick(attempts.avoid)
                served: ServedVersion | None = None
                entered = False
                try:
                    served = endpoint.served or (yield from self._read_served(endpoint, attempts))
                    if prepared_for != served.spec.preprocessing:
                        prepared_for = served.spec.preprocessing
                        # From the sources again: what was prepared for one version does not fit another.
                        prepared = yield Work(self._prepare, (images, prepared_for, position, attempts))
                    began = time.monotonic()
                    yield from _enter(lane.window)
                    entered = True
                    if patient:
                        # A batch's time begins when it is first sent, and stands still while it waits for the others.
                        left = self.timeout_s if preparing else attempts.deadline - began
                        attempts.deadline = time.monotonic() + left
                    if preparing:
                        lane.preparing.leave()
                        preparing = False
                    if patient and self._endpoints.several:
                        # Others were sent in the meantime, so another server may be the one to ask by now.
                        other = self._endpoints.pick(attempts.avoid)
                        if other.served is not None and other.served.spec.preprocessing == prepared_for:
                            endpoint, served = other, other.served
                    return (yield from self._infer(endpoint, served, prepared, top_k, attempts, lane.window, position))
                except ServerError as exc:
                    if isinstance(exc, OverloadedError):
                        lane.window.refused()
                    # Still at its place in the window, or others would come and fail like it while it waits.
                    yield from self._recover(exc, endpoint, attempts, served)
                finally:
                    if entered:
                        lane.window.leave()
        finally:
            if preparing:
                lane.preparing.leave()

    def _classify_one(self, image: ImageSource, top_k: int) -> Flow[Prediction]:
        (outcome,) = yield from self._classify([image], top_k)
        if isinstance(outcome, InvalidImageError):
            raise outcome
        return outcome

    def _infer(
        self,
        endpoint: Endpoint,
        served: ServedVersion,
        prepared: list[Pixels | InvalidImageError],
        top_k: int,
        attempts: _Attempts,
        window: Window,
        position: int,
    ) -> Flow[list[Outcome]]:
        outcomes: list[Any] = list(prepared)
        places = [place for place, image in enumerate(prepared) if not isinstance(image, InvalidImageError)]
        for start in range(0, len(places), served.max_batch_size):
            part = places[start : start + served.max_batch_size]
            with self._endpoints.asked(endpoint):
                reply = yield from self._ask(endpoint, served, [outcomes[place] for place in part], attempts)
            positions = [position + place for place in part]
            predictions = read_reply(reply, served, positions, top_k=top_k, url=endpoint.url)
            for place, prediction in zip(part, predictions, strict=True):
                outcomes[place] = prediction
            window.answered(len(part))
        self._counter.count(images=len(places))
        return outcomes

    def _ask(
        self, endpoint: Endpoint, served: ServedVersion, pixels: list[Pixels], attempts: _Attempts
    ) -> Flow[service_pb2.ModelInferResponse]:
        if self._memory is None:
            request = infer_request(served, pixels)
            return (yield from self._call(endpoint, "ModelInfer", request, attempts, served.version))
        region = self._memory.lease(max(len(pixels), served.max_batch_size) * pixels[0].nbytes)
        try:
            region.write(pixels)
            yield from self._tell(endpoint, region, attempts)
            request = infer_request(served, pixels, region=region.name)
            return (yield from self._call(endpoint, "ModelInfer", request, attempts, served.version))
        finally:
            # Also when the call was given up: what the server may still read of the region then, nobody reads.
            self._memory.give_back(region)

    def _tell(self, endpoint: Endpoint, region: Region, attempts: _Attempts) -> Flow[None]:
        """Tell a server of a region of shared memory, and the first time have it drop those of killed clients."""
        if endpoint.url in region.known_to:
            return
        assert self._memory is not None
        if not any(endpoint.url in other.known_to for other in self._memory.regions):
            status = yield from self._call(
                endpoint, "SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest(), attempts
            )
            for name in status.regions:
                if name.startswith(PREFIX) and is_leftover(name):
                    drop = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
                    yield from self._call(endpoint, "SystemSharedMemoryUnregister", drop, attempts)
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=f"/{region.name}", byte_size=region.size
        )
        try:
            yield from self._call(endpoint, "SystemSharedMemoryRegister", request, attempts)
        except InvalidRequestError as exc:
            # The reply of an earlier time was lost, and the name is nobody else's.
            if "already in manager" not in str(exc):
                raise
        region.known_to.add(endpoint.url)

    def _call(
        self, endpoint: Endpoint, method: str, request: Any, attempts: _Attempts, version: int | None = None
    ) -> Flow[Any]:
        left = self._left(attempts)
        if self._endpoints.another_ready(endpoint):
            # A server that hangs leaves time to ask another one; of one that never answered, little is expected.
            left = left / 2 if endpoint.answered else min(left / 2, PROBE_TIMEOUT_S)
        try:
            reply = yield Rpc(endpoint, method, request, left)
        except Exception as exc:
            if self._closed:
                # By another thread; each kind of connection has its own way of saying so.
                self._check_open()
            if not isinstance(exc, grpc.RpcError):
                raise
            raise error_from_rpc(exc, url=endpoint.url, model=self.model, version=version) from exc
        endpoint.answered = endpoint.ready = True
        return reply

    def _left(self, attempts: _Attempts) -> float:
        left = attempts.deadline - time.monotonic()
        if left <= 0 and attempts.last is not None:
            raise attempts.last
        if left <= 0:
            message = f"model {self.model}: the {self.timeout_s:g} s for a call of {self.url} are over"
            raise DeadlineError(message, model=self.model, url=self.url)
        return left

    def _recover(
        self, exc: ServerError, endpoint: Endpoint, attempts: _Attempts, served: ServedVersion | None = None
    ) -> Flow[None]:
        """Return when the call may be tried again, or raise what it failed with.

        Only what another attempt can mend is tried again: a full queue, a server that is lost, a version that is
        gone. A request that the server refuses or cannot compute would only fail again.
        """
        if time.monotonic() >= attempts.deadline:
            raise exc
        attempts.last = exc
        attempts.failed += 1
        attempts.avoid = endpoint
        wait = pause(attempts.failed)
        elsewhere = self._endpoints.another_ready(endpoint)
        if isinstance(exc, OverloadedError):
            cause = "overloaded"
            self._spend(exc, attempts)
        elif isinstance(exc, UnavailableError) or (isinstance(exc, DeadlineError) and elsewhere):
            cause = "lost"
            if isinstance(exc, DeadlineError):
                # It may hang, or be slow under its load.
                self._spend(exc, attempts)
            endpoint.ready = False
            if self._memory is not None:
                self._memory.forget(endpoint.url)
            if elsewhere:
                wait = 0.0
            elif not any(other.answered for other in self._endpoints.all):
                # Nothing was ever there: more likely a wrong address than a server that restarts.
                raise exc
        elif isinstance(exc, ModelNotFoundError):
            cause = "gone"
            if served is None:
                # The server says so of the model itself, not of a version.
                endpoint.ready = False
                if not elsewhere and (yield from self._is_up(endpoint, attempts)):
                    raise exc
            elif (endpoint.url, served.version) not in attempts.gone:
                attempts.gone.add((endpoint.url, served.version))
                attempts.avoid, wait = None, 0.0
            elif not self._endpoints.several:
                raise exc
            if endpoint.served is served:
                endpoint.served = None
        elif (
            self._memory is not None and "shared memory region" in str(exc) and endpoint.url not in attempts.told_again
        ):
            # The server was restarted since it was told of the region.
            cause = "lost"
            attempts.told_again.add(endpoint.url)
            self._memory.forget(endpoint.url)
        else:
            raise exc
        logger.info("attempt %d failed: %s; the next in %.0f ms", attempts.failed, exc, wait * 1000)
        if wait:
            yield from self._wait(exc, wait, attempts)
        self._counter.count(**{cause: 1})

    def _is_up(self, endpoint: Endpoint, attempts: _Attempts) -> Flow[bool]:
        """Whether a server is ready for work: one that is about to end, or just begins, knows no model either."""
        try:
            reply = yield from self._call(endpoint, "ServerReady", service_pb2.ServerReadyRequest(), attempts)
        except ServerError:
            return False
        return bool(reply.ready)

    def _spend(self, exc: ServerError, attempts: _Attempts) -> None:
        # Batches of `classify_many` need no other bound than the window: they wait at their places in it.
        if not attempts.patient and not self._budget.spend():
            raise exc

    def _wait(self, exc: ServerError, seconds: float, attempts: _Attempts) -> Flow[None]:
        if time.monotonic() + seconds >= attempts.deadline:
            raise exc
        yield Pause(seconds)

    def _prepare(
        self, images: Sequence[ImageSource], preprocessing: Preprocessing, position: int, attempts: _Attempts
    ) -> list[Pixels | InvalidImageError]:
        if not attempts.patient:
            # The time may be over by now, where many wait for a processor.
            self._left(attempts)
        prepared: list[Pixels | InvalidImageError] = []
        for place, image in enumerate(images, position):
            try:
                prepared.append(prepare(image, preprocessing))
            except InvalidImageError as exc:
                exc.position = place
                prepared.append(exc)
        return prepared


def _disconnect(endpoints: Endpoints, memory: SharedMemory | None, process: int) -> None:
    if os.getpid() != process:
        # Of the parent of a fork.
        return
    if memory is not None:
        until = time.monotonic() + _GOODBYE_S
        for endpoint in endpoints.all:
            for region in memory.regions:
                if endpoint.url in region.known_to:
                    request = service_pb2.SystemSharedMemoryUnregisterRequest(name=region.name)
                    # Whatever this fails with, the rest is to be closed.
                    with contextlib.suppress(Exception):
                        left = max(until - time.monotonic(), 0.01)
                        endpoint.transport.call("SystemSharedMemoryUnregister", request, left)
        memory.close()
    endpoints.close()


def _disconnect_at_exit(client: Calls) -> None:
    from multiprocessing import util

    util.Finalize(client, client._disconnect, exitpriority=0)


_clients: weakref.WeakSet[Calls] = weakref.WeakSet()
_inherited: list[Any] = []


def _open_again() -> None:
    """After a fork, in the child: the parent's connections are its own, and its threads are not here."""
    for client in _clients:
        # Kept and never closed: to close them would wait for threads that this process does not have.
        _inherited.append(vars(client).copy())
        if client._memory is not None:
            client._memory.disown()
        client._open()


os.register_at_fork(after_in_child=_open_again)


def _enter(gate: Gate) -> Flow[None]:
    turn = gate.enter()
    if turn is not None:
        try:
            yield Turn(turn)
        except BaseException:
            gate.abandon(turn)
            raise
