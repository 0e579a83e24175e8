"""Client and AsyncClient: classify images with a model that Triton serves.

What a call does is written once, in `_Calls`, as generators that yield each step that takes time: a call to
the server, or work for the processor. The two clients differ only in how they carry a step out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from . import pipeline
from .errors import DeadlineError, InvalidImageError, ModelNotFoundError, UsageError
from .prediction import Prediction
from .preprocessing import ImageSource, Pixels, prepare
from .protocol import ServedVersion, error_from_rpc, infer_request, read_reply, read_served_version
from .spec import ModelSpec, Preprocessing

DEFAULT_URL = "grpc://localhost:8001"

T = TypeVar("T")
OnError: TypeAlias = Literal["raise", "return"]
Outcome: TypeAlias = Prediction | InvalidImageError


@dataclass(frozen=True, slots=True)
class _Rpc:
    """A step: call the server."""

    method: str
    request: Any
    timeout_s: float


@dataclass(frozen=True, slots=True)
class _Work:
    """A step: keep a processor busy."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


_Flow: TypeAlias = Generator[_Rpc | _Work, Any, T]


class _Calls:
    """What both clients do; see `Client` for the arguments."""

    def __init__(self, url: str = DEFAULT_URL, *, model: str, timeout_s: float = 10.0) -> None:
        if not timeout_s > 0:
            raise UsageError(f"timeout_s: {timeout_s}; give seconds greater than 0")
        self.url = url
        self.model = model
        self.timeout_s = timeout_s
        self._target = grpc_target(url)
        self._served: ServedVersion | None = None

    @property
    def spec(self) -> ModelSpec:
        """The spec of the version that the client is pinned to.

        `Client` reads it from the server when first asked for; `AsyncClient`, which cannot wait here, raises
        `UsageError` where nothing was read yet.
        """
        return self._pinned().spec

    @property
    def live_version(self) -> int:
        """The version that the client is pinned to; read as `spec` is."""
        return self._pinned().version

    @property
    def max_batch_size(self) -> int:
        """Most images that the server takes in one request; read as `spec` is."""
        return self._pinned().max_batch_size

    def _pinned(self) -> ServedVersion:
        raise NotImplementedError

    def _read_served(self, deadline: float) -> _Flow[ServedVersion]:
        request = service_pb2.ModelConfigRequest(name=self.model)
        try:
            reply = yield _Rpc("ModelConfig", request, self._left(deadline))
        except grpc.RpcError as exc:
            raise error_from_rpc(exc, url=self.url, model=self.model) from exc
        self._served = read_served_version(reply.config)
        return self._served

    def _classify(self, images: Sequence[ImageSource], top_k: int) -> _Flow[list[Outcome]]:
        if top_k < 1:
            raise UsageError(f"top_k: {top_k}; give 1 or more")
        deadline = time.monotonic() + self.timeout_s
        served = self._served or (yield from self._read_served(deadline))
        while True:
            outcomes: list[Any] = yield _Work(_prepare_all, (images, served.spec.preprocessing))
            readable = [place for place, pixels in enumerate(outcomes) if not isinstance(pixels, Exception)]
            try:
                predictions = yield from self._infer([outcomes[i] for i in readable], served, top_k, deadline)
            except ModelNotFoundError:
                # The pinned version is gone. Another one may want another input and has other labels, so
                # the images are prepared again, from the sources, for the version that is live now.
                gone = served.version
                if self._served is None or self._served.version == gone:
                    yield from self._read_served(deadline)
                assert self._served is not None
                served = self._served
                if served.version == gone:
                    raise
                continue
            for place, prediction in zip(readable, predictions, strict=True):
                outcomes[place] = prediction
            return outcomes

    def _infer(
        self, pixels: list[Pixels], served: ServedVersion, top_k: int, deadline: float
    ) -> _Flow[list[Prediction]]:
        predictions: list[Prediction] = []
        for start in range(0, len(pixels), served.max_batch_size):
            part = pixels[start : start + served.max_batch_size]
            try:
                reply = yield _Rpc("ModelInfer", infer_request(served, part), self._left(deadline))
            except grpc.RpcError as exc:
                raise error_from_rpc(exc, url=self.url, model=self.model, version=served.version) from exc
            predictions += read_reply(reply, served, len(part), top_k=top_k, url=self.url)
        return predictions

    def _classify_one(self, image: ImageSource, top_k: int) -> _Flow[Prediction]:
        (outcome,) = yield from self._classify([image], top_k)
        if isinstance(outcome, InvalidImageError):
            raise outcome
        return outcome

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            message = f"model {self.model}: the {self.timeout_s:g} s for a call of {self.url} are over"
            raise DeadlineError(message, model=self.model, url=self.url)
        return left


class Client(_Calls):
    """Classifies images with one model on a Triton server. Threads may share it.

    Args:
        url: ``grpc://host:port``.
        model: its name in the server's repository.
        timeout_s: seconds for a whole call, refreshing and sending again included. In `classify_many` it
            holds for each request.

    Raises:
        UsageError: the URL or the time-out makes no sense. Nothing is sent before the first call.

    Example::

        with tamiz.Client(model="clothing") as client:
            print(client.classify("coat.jpg").label)
    """

    def __init__(self, url: str = DEFAULT_URL, *, model: str, timeout_s: float = 10.0) -> None:
        super().__init__(url, model=model, timeout_s=timeout_s)
        self._channel = open_channel(self._target)
        self._closed = False
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def refresh(self) -> None:
        """Read from the server which version is live now, and pin it.

        Raises:
            ServerError: see the subclasses.
            SpecError: the model has no spec that this client can follow.
        """
        self._run(self._read_served(time.monotonic() + self.timeout_s))

    def classify(self, image: ImageSource, *, top_k: int = 1) -> Prediction:
        """Classify one image.

        Args:
            image: a path, the bytes of an image file, or uint8 ``[height, width, 3]`` RGB or
                ``[height, width]`` grey.
            top_k: how many labels ``Prediction.top`` holds.

        Raises:
            InvalidImageError: the image cannot be read; it was not sent.
            ServerError: see the subclasses.
            SpecError: the model has no spec that this client can follow.
        """
        return self._run(self._classify_one(image, top_k))

    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError = "raise",
        in_flight: int = 4,
        batch_size: int | None = None,
    ) -> Iterator[Outcome]:
        """Classify images, lazily and in order, in memory that does not grow with their number.

        Args:
            images: as for `classify`; taken as they are needed.
            top_k: how many labels each ``Prediction.top`` holds.
            on_error: an image that cannot be read raises its `InvalidImageError`, or it is returned in the
                image's place.
            in_flight: requests under way at once, each with a thread that prepares its images.
            batch_size: images in a request; the server's ``max_batch_size`` where None.

        Yields:
            one outcome for each image.

        Raises:
            InvalidImageError: with ``on_error="raise"``.
            ServerError: see the subclasses.
            SpecError: the model has no spec that this client can follow.
        """
        pipeline.check(in_flight, batch_size, on_error, top_k)

        def classify_batch(batch: list[ImageSource]) -> list[Outcome]:
            return self._run(self._classify(batch, top_k))

        def outcomes() -> Iterator[Outcome]:
            size = batch_size or self.max_batch_size
            for batch in pipeline.map_in_order(classify_batch, pipeline.batched(images, size), in_flight):
                yield from pipeline.raise_or_return(batch, on_error)

        return outcomes()

    def close(self) -> None:
        """Close the connection; the client cannot be used after that."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pinned(self) -> ServedVersion:
        if self._served is None:
            self.refresh()
        assert self._served is not None
        return self._served

    def _run(self, flow: _Flow[T]) -> T:
        if self._closed:
            raise UsageError(f"the client of model {self.model} is closed")
        try:
            step = next(flow)
            while True:
                try:
                    result = self._perform(step)
                except Exception as exc:
                    step = flow.throw(exc)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _perform(self, step: _Rpc | _Work) -> Any:
        if isinstance(step, _Work):
            return step.function(*step.args)
        return getattr(self._stub, step.method)(step.request, timeout=step.timeout_s)


class AsyncClient(_Calls):
    """`Client` for asyncio: the same calls, awaited. One event loop may use it.

    Entering it with ``async with`` reads the spec; without that, the first call does.
    """

    def __init__(self, url: str = DEFAULT_URL, *, model: str, timeout_s: float = 10.0) -> None:
        super().__init__(url, model=model, timeout_s=timeout_s)
        self._channel: grpc.aio.Channel | None = None
        self._closed = False
        self._stub: Any = None

    async def refresh(self) -> None:
        """Read from the server which version is live now, and pin it; see `Client.refresh`."""
        await self._run(self._read_served(time.monotonic() + self.timeout_s))

    async def classify(self, image: ImageSource, *, top_k: int = 1) -> Prediction:
        """Classify one image; see `Client.classify`."""
        return await self._run(self._classify_one(image, top_k))

    async def classify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError = "raise",
        in_flight: int = 4,
        batch_size: int | None = None,
    ) -> AsyncGenerator[Outcome]:
        """Classify images, lazily and in order; see `Client.classify_many`."""
        pipeline.check(in_flight, batch_size, on_error, top_k)
        if self._served is None:
            await self.refresh()

        async def classify_batch(batch: list[ImageSource]) -> list[Outcome]:
            return await self._run(self._classify(batch, top_k))

        # Closed with this generator: what is under way must not outlive a caller who stops early.
        async with (
            aclosing(pipeline.batched_async(images, batch_size or self.max_batch_size)) as batches,
            aclosing(pipeline.map_in_order_async(classify_batch, batches, in_flight)) as results,
        ):
            async for batch in results:
                for outcome in pipeline.raise_or_return(batch, on_error):
                    yield outcome

    async def close(self) -> None:
        """Close the connection; the client cannot be used after that."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        try:
            await self.refresh()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _pinned(self) -> ServedVersion:
        if self._served is None:
            raise UsageError("nothing is read from the server yet; use `async with`, or await refresh()")
        return self._served

    async def _run(self, flow: _Flow[T]) -> T:
        if self._closed:
            raise UsageError(f"the client of model {self.model} is closed")
        try:
            step = next(flow)
            while True:
                try:
                    result = await self._perform(step)
                except Exception as exc:
                    step = flow.throw(exc)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _perform(self, step: _Rpc | _Work) -> Any:
        if isinstance(step, _Work):
            return await asyncio.to_thread(step.function, *step.args)
        if self._channel is None:
            # Made here, since a channel belongs to the event loop that runs when it is made.
            self._channel = grpc.aio.insecure_channel(self._target, _channel_options(self._target))
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return await getattr(self._stub, step.method)(step.request, timeout=step.timeout_s)


def open_channel(target: str, options: Iterable[tuple[str, int]] = ()) -> grpc.Channel:
    """A gRPC channel to ``host:port``, with the options that every channel of Tamiz has and further ones."""
    return grpc.insecure_channel(target, [*_channel_options(target), *options])


def _channel_options(target: str) -> list[tuple[str, int]]:
    # Batches of large images pass gRPC's usual 4 MiB; Triton itself takes up to 2 GiB - 1.
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    if target.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]"):
        # gRPC would ask the proxy of http_proxy for this machine's own loopback.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def grpc_target(url: str) -> str:
    """``host:port`` of ``grpc://host:port``; the port is 8001 where it is not given.

    Raises:
        UsageError: it is not such a URL.
    """
    found = re.fullmatch(r"grpc://(?P<host>\[[0-9a-fA-F:]+\]|[^/:,@\s]+)(:(?P<port>\d{1,5}))?/?", url)
    port = int(found["port"] or 8001) if found else 0
    if found is None or not 0 < port < 65536:
        raise UsageError(f"url: {url!r}; write grpc://host:port")
    return f"{found['host']}:{port}"


def _prepare_all(images: Sequence[ImageSource], preprocessing: Preprocessing) -> list[Pixels | InvalidImageError]:
    prepared: list[Pixels | InvalidImageError] = []
    for image in images:
        try:
            prepared.append(prepare(image, preprocessing))
        except InvalidImageError as exc:
            prepared.append(exc)
    return prepared
