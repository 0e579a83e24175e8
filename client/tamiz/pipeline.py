"""Many images: into batches, several batches under way, results in order or as they come, memory bounded.

What is under way is bounded by the gates of a `calls.Lane`; here it is only seen to that enough batches stand at
them, and that no more are taken from the source than that.
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

from .errors import UsageError

T = TypeVar("T")
R = TypeVar("R")


def check(images: object, in_flight: int | None, batch_size: int | None, on_error: str, top_k: int) -> None:
    """Refuse settings that make no sense, before anything begins.

    Raises:
        UsageError: which, and what to give.
    """
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike):
        raise UsageError("images: a single one; give a list of them, or call classify")
    if in_flight is not None and in_flight < 1:
        raise UsageError(f"in_flight: {in_flight}; give 1 or more")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size: {batch_size}; give 1 or more")
    if top_k < 1:
        raise UsageError(f"top_k: {top_k}; give 1 or more")
    if on_error not in ("raise", "return"):
        raise UsageError(f"on_error: {on_error!r}; give 'raise' or 'return'")


def batched(items: Iterable[T], size: int) -> Iterator[tuple[int, list[T]]]:
    """Lists of ``size`` items, the last one shorter, each with the position of its first item."""
    iterator, position = iter(items), 0
    while batch := list(itertools.islice(iterator, size)):
        yield position, batch
        position += len(batch)


async def batched_async(items: Iterable[T] | AsyncIterable[T], size: int) -> AsyncGenerator[tuple[int, list[T]]]:
    """`batched` over either kind of iterable."""
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
    """``map`` in threads. Items are taken as they are needed.

    An error of the function is raised in the place of its result. Then, and where no more results are asked for, what
    waits is dropped and nothing is waited for: threads end when what they are at ends.

    Args:
        function: of one item.
        items: any number.
        ahead: how many items may be taken whose results are not given yet; asked again for each.
        most: threads.
        ordered: give results in the order of the items, not as they come.
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
    """`map_threads` with tasks in the place of threads."""
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
    """The outcomes; an exception among them is raised, unless it is to be returned."""
    for outcome in outcomes:
        if isinstance(outcome, Exception) and on_error == "raise":
            raise outcome
        yield outcome
