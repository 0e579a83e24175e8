"""The pipeline of `classify_many`: several batches at a time, results in order or as they arrive, in bounded memory.

The concurrency limits (`concurrency.Limits`) bound how many batches are prepared and in flight. The pipeline keeps
enough batches waiting for them, and takes no more from the source than that.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..errors import UsageError

T = TypeVar("T")
R = TypeVar("R")


def check(images: object, in_flight: int | None, batch_size: int | None, on_error: str, top_k: int) -> None:
    """Check the arguments of `classify_many` before anything begins.

    Raises:
        UsageError: an argument is wrong.
    """
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike):
        raise UsageError("images: a single image; give a list of images, or call classify")
    if in_flight is not None and in_flight < 1:
        raise UsageError(f"in_flight: {in_flight}; give 1 or more")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size: {batch_size}; give 1 or more")
    if top_k < 1:
        raise UsageError(f"top_k: {top_k}; give 1 or more")
    if on_error not in ("raise", "return"):
        raise UsageError(f"on_error: {on_error!r}; give 'raise' or 'return'")


def batched(items: Iterable[T], size: int) -> Iterator[tuple[int, list[T]]]:
    """Lists of ``size`` items, the last one possibly shorter, each with the position of its first item."""
    iterator, position = iter(items), 0
    while batch := list(itertools.islice(iterator, size)):
        yield position, batch
        position += len(batch)


async def batched_async(items: Iterable[T] | AsyncIterable[T], size: int) -> AsyncGenerator[tuple[int, list[T]]]:
    """`batched` over an iterable or an asynchronous iterable."""
    if not isinstance(items, AsyncIterable):
        for numbered in batched(items, size):
            yield numbered
        return
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
    thread has begun are dropped, and the threads end after their current item; nothing waits for them.

    Args:
        function: applied to each item.
        items: any number of items, also endless.
        ahead: returns how many items may be taken before their results are consumed; called again for each item.
        most: the largest number of threads.
        ordered: yield results in the order of the items; otherwise as they arrive.
    """
    waiting: deque[Future[R]] = deque()
    done: queue.SimpleQueue[Future[R]] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(most, thread_name_prefix="tamiz")

    def first() -> R:
        if ordered:
            return waiting.popleft().result()
        future = done.get()
        waiting.remove(future)
        return future.result()

    try:
        for item in items:
            future = pool.submit(function, item)
            waiting.append(future)
            if not ordered:
                future.add_done_callback(done.put)
            while len(waiting) >= ahead():
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(wait=not waiting, cancel_futures=True)


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
