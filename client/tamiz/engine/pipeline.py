"""The pipeline of `classify_many`: several batches at a time, results in order or as they arrive, in bounded memory.

The concurrency limits (`concurrency.Limits`) bound how many batches are prepared and in flight. The pipeline keeps
enough batches waiting for them, and takes no more from the source than that.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import queue
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, Self, TypeVar

import numpy as np

from ..arguments import check_choice, check_flag, check_whole, wrong
from ..errors import UsageError
from ..threads import Threads

T = TypeVar("T")
R = TypeVar("R")

MAX_IN_FLIGHT = 1_024
"""The most requests in flight that a caller may ask for; each has a thread of `Client`."""

MAX_BATCH_SIZE = 65_536
"""The most images in a request that a caller may ask for; all of them are in memory together."""


def check(
    images: object,
    *,
    top_k: object,
    on_error: object,
    ordered: object,
    in_flight: object,
    batch_size: object,
    provenance: object,
    asynchronous: bool,
) -> None:
    """Check the arguments of `classify_many` before anything begins.

    Raises:
        UsageError: an argument is wrong.
    """
    if single := _single_image(images):
        raise UsageError(f"images: a single image ({single}); give a list of images, or call classify")
    # iter() would call the caller's code, which may start to work.
    if not isinstance(images, Iterable) and not hasattr(type(images), "__getitem__"):
        if not isinstance(images, AsyncIterable):
            raise wrong("images", images, "a list of images, or another iterable")
        if not asynchronous:
            raise wrong("images", images, "an iterable of images; AsyncClient takes asynchronous ones too")
    check_whole("top_k", top_k)
    check_choice("on_error", on_error, ("raise", "return"))
    check_flag("ordered", ordered)
    if in_flight is not None:
        check_whole("in_flight", in_flight, most=MAX_IN_FLIGHT)
    if batch_size is not None:
        check_whole("batch_size", batch_size, most=MAX_BATCH_SIZE)
    if provenance is not None:
        check_flag("provenance", provenance)


def _single_image(images: object) -> str | None:
    """What an object is that holds one image although it can be iterated; None for any other object."""
    if isinstance(images, str | os.PathLike):
        return "a path"
    if isinstance(images, bytes | bytearray | memoryview | io.IOBase):
        return "the content of a file"
    if isinstance(images, np.ndarray) and images.dtype.kind in "biufc":
        # Iterated, the rows of one picture would be taken for many images. [images, height, width] is a stack.
        rows = images.ndim < 3 or (images.ndim == 3 and images.shape[2] <= 4)
        return f"an array of {images.dtype} {list(images.shape)}" if rows else None
    return None


class Source(Generic[T]):
    """The items of a caller, one after another: an exception of theirs ends them, and is kept for `check`.

    So what came before a failure is classified and yielded before the failure is raised.

    Args:
        items: an iterable or an asynchronous iterable; the latter can only be iterated asynchronously.
    """

    def __init__(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        self._items = items
        self._iterator: Any = None
        self._failure: Exception | None = None

    def check(self) -> None:
        """Raise the exception that ended the items, if one did."""
        if self._failure is not None:
            raise self._failure

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._failure is not None:
            raise StopIteration
        try:
            self._iterator = self._iterator or iter(self._items)  # type: ignore[arg-type]
            return next(self._iterator)  # type: ignore[no-any-return]
        except StopIteration:
            raise
        except Exception as exc:
            self._failure = exc
            raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not isinstance(self._items, AsyncIterable):
            for item in self:
                return item
            raise StopAsyncIteration
        if self._failure is not None:
            raise StopAsyncIteration
        try:
            self._iterator = self._iterator or aiter(self._items)
            return await anext(self._iterator)
        except StopAsyncIteration:
            raise
        except Exception as exc:
            self._failure = exc
            raise StopAsyncIteration from None


def batched(items: Iterable[T], size: int) -> Iterator[tuple[int, list[T]]]:
    """Lists of ``size`` items, the last one possibly shorter, each with the position of its first item."""
    iterator, position = iter(items), 0
    while batch := list(itertools.islice(iterator, size)):
        yield position, batch
        position += len(batch)


async def batched_async(items: AsyncIterable[T], size: int) -> AsyncGenerator[tuple[int, list[T]]]:
    """`batched` over an asynchronous iterable."""
    position, batch = 0, []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield position, batch
            position, batch = position + size, []
    if batch:
        yield position, batch


def map_threads(
    function: Callable[[T], R], items: Iterable[T], ahead: Callable[[], int], *, most: int, ordered: bool = True
) -> Iterator[R]:
    """``map`` in threads; items are taken as they are needed.

    An error of the function is raised instead of its result. Then, and when the caller stops early, items that no
    thread has begun are dropped, and the threads end after their current item; nothing waits for them, not even the end
    of the process.

    Args:
        function: applied to each item.
        items: any number of items, also endless.
        ahead: returns how many items may be taken before their results are consumed; called again for each item.
        most: the largest number of threads.
        ordered: yield results in the order of the items; otherwise as they arrive.
    """
    waiting: deque[Future[R]] = deque()
    done: queue.SimpleQueue[Future[R]] = queue.SimpleQueue()
    threads = Threads(most)

    def first() -> R:
        if ordered:
            return waiting.popleft().result()
        future = done.get()
        waiting.remove(future)
        return future.result()

    try:
        for item in items:
            future: Future[R] = Future()
            threads.run(partial(_fulfil, future, function, item))
            waiting.append(future)
            if not ordered:
                future.add_done_callback(done.put)
            while len(waiting) >= ahead():
                yield first()
        while waiting:
            yield first()
    finally:
        for future in waiting:
            future.cancel()
        threads.close()


def _fulfil(future: Future[R], function: Callable[[T], R], item: T) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(function(item))
        except BaseException as exc:
            future.set_exception(exc)


async def map_tasks(
    function: Callable[[T], Awaitable[R]], items: AsyncIterable[T], ahead: Callable[[], int], *, ordered: bool = True
) -> AsyncGenerator[R]:
    """`map_threads` with asyncio tasks instead of threads."""
    waiting: deque[asyncio.Task[R]] = deque()
    done: asyncio.Queue[asyncio.Task[R]] = asyncio.Queue()

    async def run(item: T) -> R:
        return await function(item)

    async def first() -> R:
        if ordered:
            return await waiting.popleft()
        task = await done.get()
        waiting.remove(task)
        return task.result()

    try:
        async for item in items:
            task = asyncio.create_task(run(item))
            waiting.append(task)
            if not ordered:
                task.add_done_callback(done.put_nowait)
            while len(waiting) >= ahead():
                yield await first()
        while waiting:
            yield await first()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def raise_or_return(outcomes: Iterable[T], on_error: str) -> Iterator[T]:
    """The outcomes; raises an exception among them when ``on_error`` is ``raise``."""
    for outcome in outcomes:
        if isinstance(outcome, Exception) and on_error == "raise":
            raise outcome
        yield outcome
