from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tamiz.engine.pipeline import Source, batched, batched_async, map_tasks, map_threads


def test_batches_hold_the_items_in_order_with_their_positions_and_the_last_is_shorter() -> None:
    assert list(batched("abcdefg", 3)) == [(0, ["a", "b", "c"]), (3, ["d", "e", "f"]), (6, ["g"])]
    assert list(batched([], 3)) == []


async def test_batches_of_an_async_source_are_the_same() -> None:
    async def source() -> AsyncIterator[int]:
        for item in range(7):
            yield item

    assert [batch async for batch in batched_async(Source(source()), 3)] == [(0, [0, 1, 2]), (3, [3, 4, 5]), (6, [6])]
    assert [batch async for batch in batched_async(Source(range(4)), 3)] == [(0, [0, 1, 2]), (3, [3])]


def failing() -> Iterator[int]:
    yield from range(7)
    raise OSError("the disk is gone")


async def failing_later() -> AsyncIterator[int]:
    for item in failing():
        yield item


def test_the_items_before_a_failure_of_the_source_come_first_then_the_failure_is_raised() -> None:
    source = Source(failing())
    assert [batch for _, batch in batched(source, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(source) == []
    with pytest.raises(OSError, match="the disk is gone"):
        source.check()


@pytest.mark.parametrize("items", [failing, failing_later])
async def test_the_items_before_a_failure_of_an_async_source_come_first(
    items: Callable[[], Iterator[int] | AsyncIterator[int]],
) -> None:
    source = Source(items())
    assert [batch async for _, batch in batched_async(source, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    with pytest.raises(OSError, match="the disk is gone"):
        source.check()


def test_a_source_that_cannot_be_iterated_or_is_interrupted_raises_that() -> None:
    class Interrupted:
        def __iter__(self) -> Iterator[int]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(batched(Source(Interrupted()), 3))
    Source(range(3)).check()


def test_results_are_in_order_even_if_later_ones_finish_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item % 4 == 0 else 0)
        return item

    assert list(map_threads(slow_first, range(20), lambda: 6, most=4)) == list(range(20))


def test_unordered_results_are_complete_and_slow_ones_come_late() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.2 if item == 0 else 0)
        return item

    results = list(map_threads(slow_first, range(20), lambda: 8, most=4, ordered=False))
    assert sorted(results) == list(range(20))
    assert results.index(0) > 3


def test_an_endless_source_is_read_only_as_needed() -> None:
    taken = itertools.count()
    results = map_threads(lambda item: item, taken, lambda: 8, most=4)
    assert list(itertools.islice(results, 100)) == list(range(100))
    results.close()
    assert next(taken) <= 108


def test_an_error_is_raised_instead_of_its_result_and_ends_the_threads() -> None:
    before = set(threading.enumerate())
    results = map_threads(lambda item: 1 // (3 - item), range(10), lambda: 4, most=2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("ordered", [True, False])
async def test_async_results_are_ordered_if_requested_and_bounded_in_number(ordered: bool) -> None:
    running = most = 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01 if item % 4 == 0 else 0)
        running -= 1
        return item

    async def source() -> AsyncIterator[int]:
        for item in range(30):
            yield item

    results = [result async for result in map_tasks(work, source(), lambda: 3, ordered=ordered)]
    assert (results == list(range(30))) is ordered
    assert sorted(results) == list(range(30))
    assert most == 3


async def test_an_async_consumer_that_stops_leaves_no_task_behind() -> None:
    async def source() -> AsyncIterator[int]:
        for item in itertools.count():
            yield item

    async def work(item: int) -> int:
        await asyncio.sleep(0.01)
        return item

    results = map_tasks(work, source(), lambda: 3)
    assert await anext(results) == 0
    await results.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
