"""Client and AsyncClient: classify images with a model that Triton serves.

What a call does stands in `calls`; here each step of it is carried out, in the calling thread or on an event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

from . import pipeline
from .calls import CORES, Calls, Flow, Outcome, Pause, Rpc, Step, Turn, Work
from .errors import UsageError
from .prediction import Prediction
from .preprocessing import ImageSource
from .served_version import ServedVersion
from .transport import CallFuture

T = TypeVar("T")
OnError: TypeAlias = Literal["raise", "return"]

_MOST_THREADS = 512
"""Of one `classify_many`: more than the window and the cores ask for, so it is these that bound it."""


class Client(Calls):
    """Classifies images with one model on one or several Triton servers. Threads may share it.

    A process that was forked gets connections of its own; iterators begun before the fork stay with the parent.

    Args:
        url: ``grpc://host:port``, ``grpcs://`` for TLS, or several servers of the same model,
            ``grpc://a:8001,b:8001``, of which each call asks the ready one with the fewest requests under way;
            ``dns:///name:8001`` for all addresses of a name, in turn; ``http://host:8000`` and ``https://`` where
            gRPC cannot pass (extra ``http``).
        model: its name in the servers' repositories.
        timeout_s: seconds for a whole call, retries included; one of several servers that gives no answer in half of
            what is left, or that never gave one and does not in a second, is given up for another. In
            `classify_many` it holds for each request, not for the time that one waits for the others.
        headers: of every call, such as a key; or a function that gives them for each call, as tracing wants.
        tls: certificates for ``grpcs``, ``https`` and ``dns``.
        key: of the server's restricted protocols, which only ``shared_memory`` needs.
        shared_memory: hand images to a server on the same machine through shared memory. `tamiz serve` guards that by
            its key, for who may name memory to a server may have it read any that the server can.

    Raises:
        UsageError: the URL, the time-out or a certificate makes no sense. Nothing is sent before the first call.

    Example::

        with tamiz.Client(model="clothing") as client:
            print(client.classify("coat.jpg").label)
    """

    def refresh(self) -> None:
        """Read from the server which version is live now, and pin it.

        Raises:
            ServerError: see the subclasses.
            SpecError: the model has no spec that this client can follow.
        """
        self._run(self._refresh())

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
            UsageError: ``top_k`` is less than 1, or the client is closed.
        """
        return self._run(self._classify_one(image, top_k))

    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError = "raise",
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Outcome]:
        """Classify images, lazily and in order, in memory that does not grow with their number.

        A request that a full queue refuses is sent again, later and later, until ``timeout_s`` is over: where
        `classify` gives up to spare the server, here there are fewer requests under way.

        Args:
            images: as for `classify`; taken as they are needed.
            top_k: how many labels each ``Prediction.top`` holds.
            on_error: an image that cannot be read raises its `InvalidImageError`, or it is returned in the
                image's place.
            ordered: give outcomes in the order of the images. If not, they are given as they come, and
                ``position`` of each says which image it belongs to.
            in_flight: requests under way at once; None finds the number that the servers do best with.
            batch_size: images in a request; the server's ``max_batch_size`` where None.

        Yields:
            one outcome for each image.

        Raises:
            InvalidImageError: with ``on_error="raise"``.
            ServerError: see the subclasses.
            SpecError: the model has no spec that this client can follow.
            UsageError: a setting makes no sense, or the client is closed.
        """
        pipeline.check(images, in_flight, batch_size, on_error, top_k)
        lane = self._lane_of(in_flight)

        most = max(_MOST_THREADS, in_flight or 0)
        stopped = threading.Event()

        def classify_batch(batch: tuple[int, list[ImageSource]]) -> list[Outcome]:
            position, images = batch
            return self._run(self._classify(images, top_k, lane, position), stopped)

        def outcomes() -> Iterator[Outcome]:
            batches = pipeline.batched(images, batch_size or self.max_batch_size)
            try:
                for batch in pipeline.map_threads(classify_batch, batches, lane.ahead, most=most, ordered=ordered):
                    yield from pipeline.raise_or_return(batch, on_error)
            finally:
                # Who waits at a gate by now sends nothing more.
                stopped.set()

        return outcomes()

    def close(self) -> None:
        """Close the connections; the client cannot be used after that."""
        self._close()
        self._disconnect()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pinned(self) -> ServedVersion:
        return self._latest or self._run(self._refresh())

    def _run(self, flow: Flow[T], stopped: threading.Event | None = None) -> T:
        self._check_open()
        try:
            step = next(flow)
            while True:
                if stopped is not None and stopped.is_set():
                    raise CancelledError
                try:
                    result = self._perform(step)
                except Exception as exc:
                    step = flow.throw(exc)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    def _perform(self, step: Step) -> Any:
        match step:
            case Rpc(endpoint, method, request, timeout_s):
                self._counter.count(requests=1)
                return endpoint.transport.call(method, request, timeout_s)
            case Work(function, args):
                return function(*args)
            case Turn(come):
                return come.result()
            case Pause(seconds):
                return time.sleep(seconds)


class AsyncClient(Calls):
    """`Client` for asyncio: the same calls, awaited.

    Entering it with ``async with`` reads the spec; without that, the first call does.
    """

    async def refresh(self) -> None:
        """Read from the server which version is live now, and pin it; see `Client.refresh`."""
        await self._run(self._refresh())

    async def classify(self, image: ImageSource, *, top_k: int = 1) -> Prediction:
        """Classify one image; see `Client.classify`."""
        return await self._run(self._classify_one(image, top_k))

    async def classify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError = "raise",
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
    ) -> AsyncGenerator[Outcome]:
        """Classify images, lazily and in order; see `Client.classify_many`."""
        pipeline.check(images, in_flight, batch_size, on_error, top_k)
        if self._latest is None:
            await self.refresh()
        lane = self._lane_of(in_flight)

        async def classify_batch(batch: tuple[int, list[ImageSource]]) -> list[Outcome]:
            position, images = batch
            return await self._run(self._classify(images, top_k, lane, position))

        # Closed with this generator: what is under way must not outlive a caller who stops early.
        async with (
            aclosing(pipeline.batched_async(images, batch_size or self.max_batch_size)) as batches,
            aclosing(pipeline.map_tasks(classify_batch, batches, lane.ahead, ordered=ordered)) as results,
        ):
            async for batch in results:
                for outcome in pipeline.raise_or_return(batch, on_error):
                    yield outcome

    async def close(self) -> None:
        """Close the connections; the client cannot be used after that."""
        self._close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._disconnect)

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

    def _open(self) -> None:
        super()._open()
        self._workers = ThreadPoolExecutor(CORES, thread_name_prefix="tamiz")

    def _pinned(self) -> ServedVersion:
        if self._latest is None:
            raise UsageError("nothing is read from the server yet; use `async with`, or await refresh()")
        return self._latest

    async def _run(self, flow: Flow[T]) -> T:
        self._check_open()
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
        finally:
            flow.close()

    async def _perform(self, step: Step) -> Any:
        match step:
            case Rpc(endpoint, method, request, timeout_s):
                self._counter.count(requests=1)
                return await _reply(endpoint.transport.begin(method, request, timeout_s))
            case Work(function, args):
                return await asyncio.get_running_loop().run_in_executor(self._workers, function, *args)
            case Turn(come):
                return await asyncio.wrap_future(come)
            case Pause(seconds):
                return await asyncio.sleep(seconds)


async def _reply(call: CallFuture) -> Any:
    """Await a call that is under way; who gives up waiting gives the call up."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    def wake(_: Any) -> None:
        # The loop may be closed by the time that a call ends which nobody waits for.
        if not loop.is_closed():
            loop.call_soon_threadsafe(end)

    call.add_done_callback(wake)
    try:
        await ended
    except asyncio.CancelledError:
        call.cancel()
        raise
    return call.result()
