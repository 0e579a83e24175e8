"""AsyncClient: classify images with a model that Triton serves, on an asyncio event loop.

`engine.classification` has what a call does; here each of its steps is carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from .base_client import BaseClient, OnError
from .engine import pipeline
from .engine.routed import Outcome
from .engine.steps import Compute, Flow, Send, Sleep, Step, Wait
from .prediction import Prediction
from .preprocessing import ImageSource

T = TypeVar("T")


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same arguments and calls, awaited. It may serve one event loop after another."""

    async def refresh(self) -> None:
        """Read from the server which version is live now, and use it from now on; see `Client.refresh`."""
        await self._run(self._engine.classification.refresh())

    async def classify(
        self, image: ImageSource, *, top_k: int = 1, provenance: bool | None = None, timeout_s: float | None = None
    ) -> Prediction:
        """Classify one image; see `Client.classify`."""
        return await self._run(self._engine.classification.classify(image, top_k, provenance, timeout_s))

    @overload
    def classify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: Literal["raise"] = "raise",
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
        provenance: bool | None = None,
    ) -> AsyncGenerator[Prediction]: ...

    @overload
    def classify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError,
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
        provenance: bool | None = None,
    ) -> AsyncGenerator[Outcome]: ...

    def classify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError = "raise",
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
        provenance: bool | None = None,
    ) -> AsyncGenerator[Outcome]:
        """Classify images lazily; the images may come from an asynchronous iterable too. See `Client.classify_many`."""
        pipeline.check(
            images,
            top_k=top_k,
            on_error=on_error,
            ordered=ordered,
            in_flight=in_flight,
            batch_size=batch_size,
            provenance=provenance,
            asynchronous=True,
        )
        return self._outcomes(images, top_k, on_error, ordered, in_flight, batch_size, provenance)

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._engine.mark_closed()
        await asyncio.to_thread(self._engine.disconnect)

    async def __aenter__(self) -> Self:
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

    async def _outcomes(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        top_k: int,
        on_error: OnError,
        ordered: bool,
        in_flight: int | None,
        batch_size: int | None,
        provenance: bool | None,
    ) -> AsyncGenerator[Outcome]:
        if self._engine.classification.latest is None:
            await self.refresh()
        limits = self._engine.limits_for(in_flight)

        async def classify_batch(batch: tuple[int, list[ImageSource]]) -> list[Outcome]:
            position, images = batch
            return await self._run(
                self._engine.classification.classify_batch(images, top_k, limits, position, provenance)
            )

        source = pipeline.Source(images)
        # Closed together with this generator: requests must not outlive a caller who stops early.
        async with (
            aclosing(pipeline.batched_async(source, batch_size or self.max_batch_size)) as batches,
            aclosing(pipeline.map_tasks(classify_batch, batches, limits.ahead, ordered=ordered)) as results,
        ):
            async for batch in results:
                for outcome in pipeline.raise_or_return(batch, on_error):
                    yield outcome
        source.check()

    async def _run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow one after another, and return what it returns."""
        self._engine.check_open()
        try:
            step = next(flow)
            while True:
                try:
                    result = await self._carry_out(step)
                except Exception as exc:
                    step = flow.throw(exc)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    async def _carry_out(self, step: Step) -> Any:
        match step:
            case Send(transport, request, timeout_s, on_sent, on_ended):
                on_sent()
                reply = transport.begin(request, timeout_s, on_ended)
                timer = asyncio.get_running_loop().call_later(timeout_s, reply.expire)
                try:
                    return await asyncio.wrap_future(reply)
                finally:
                    timer.cancel()
            case Compute(function, args):
                return await self._compute(function, *args)
            case Wait(future):
                return await asyncio.wrap_future(future)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)

    async def _compute(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a worker thread.

        Raises:
            ClosedError: the client was closed before the function was called.
        """
        try:
            work = self._engine.workers.submit(function, *args)
        except RuntimeError:
            # The executor was shut down.
            self._engine.check_open()
            raise
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            # Closing the client cancels the work too, and then nobody has cancelled the task.
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                self._engine.check_open()
            raise
