"""Many images: into batches, several batches under way, results in order, memory bounded."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .errors import UsageError

T = TypeVar("T")
R = TypeVar("R")

# Batches beyond those under way that may wait, done or to be done, so that no worker is idle while the
# consumer takes a batch.
_AHEAD = 2


def check(in_flight: int, batch_size: int | None, on_error: str, top_k: int) -> None:
    """Refuse settings that make no sense, before anything begins.

    Raises:
        UsageError: which, and what to give.
    """
    if in_flight < 1:
        raise UsageError(f"in_flight: {in_flight}; give 1 or more")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size: {batch_size}; give 1 or more")
    if top_k < 1:
        raise UsageError(f"top_k: {top_k}; give 1 or more")
    if on_error not in ("raise", "return"):
        raise UsageError(f"on_error: {on_error!r}; give 'raise' or 'return'")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


async def batched_async(items: Iterable[T] | AsyncIterable[T], size: int) -> AsyncGenerator[list[T]]:
    """`batched` over either kind of iterable."""
    if not isinstance(items, AsyncIterable):
        for batch in batched(items, size):
            yield batch
        return
    batch = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def map_in_order(function: Callable[[T], R], items: Iterable[T], in_flight: int) -> Iterator[R]:
    """``map`` with up to ``in_flight`` calls at once, each in a thread. Items are taken as they are needed.

    An error of the function is raised in the place of its result; what waits then is dropped.
    """
    window: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="tamiz")
    try:
        for item in items:
            window.append(pool.submit(function, item))
            if len(window) >= in_flight + _AHEAD:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


async def map_in_order_async(
    function: Callable[[T], Awaitable[R]], items: AsyncIterable[T], in_flight: int
) -> AsyncGenerator[R]:
    """`map_in_order` with tasks in the place of threads."""
    free = asyncio.Semaphore(in_flight)

    async def limited(item: T) -> R:
        async with free:
            return await function(item)

    window: deque[asyncio.Task[R]] = deque()
    try:
        async for item in items:
            window.append(asyncio.create_task(limited(item)))
            if len(window) >= in_flight + _AHEAD:
                yield await window.popleft()
        while window:
            yield await window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


def raise_or_return(outcomes: Iterable[T], on_error: str) -> Iterator[T]:
    """The outcomes; an exception among them is raised, unless it is to be returned."""
    for outcome in outcomes:
        if isinstance(outcome, Exception) and on_error == "raise":
            raise outcome
        yield outcome
