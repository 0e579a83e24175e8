from __future__ import annotations

import asyncio
import threading
import time

import pytest
from conftest import Served
from fleet import stalled, until
from graphs import even

from tamiz import AsyncClient, Client, errors
from tamiz.transports.forks import ForkGuard, fork_guard


def later(seconds: float, function) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.start()
    return timer


def test_a_fork_waits_for_requests_in_flight() -> None:
    guard, began = ForkGuard(max_wait_s=60), time.monotonic()
    guard.begin()
    timer = later(0.2, guard.end)
    guard.before_fork()
    assert 0.15 < time.monotonic() - began < 30
    guard.after_fork()
    timer.join()


def test_a_request_waits_for_the_fork_that_is_about_to_happen() -> None:
    guard, order = ForkGuard(), []

    def call() -> None:
        with guard:
            order.append("call")

    guard.before_fork()
    timer = later(0.0, call)
    time.sleep(0.2)
    order.append("fork")
    guard.after_fork()
    timer.join()
    assert order == ["fork", "call"]


def test_a_long_request_delays_a_fork_only_for_a_limited_time() -> None:
    guard, began = ForkGuard(max_wait_s=0.5), time.monotonic()
    with guard:
        guard.before_fork()
        assert 0.45 < time.monotonic() - began < 2.5
        # This happens when a client is garbage-collected in the thread that forks.
        with guard:
            guard.after_fork()


async def test_no_request_counts_as_in_flight_after_it_has_ended(served: Served) -> None:
    with pytest.raises(errors.ModelNotFoundError), Client(served.triton.url, model="nothing") as client:
        client.classify(even(1))
    async with AsyncClient(served.triton.url, model="grey", timeout_s=0.5) as client:
        await asyncio.gather(*(client.classify(even(index)) for index in range(20)))
        with stalled(served.triton):
            cancelled = asyncio.create_task(client.classify(even(1)))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            with pytest.raises(errors.DeadlineError):
                await client.classify(even(1))
    until(lambda: not fork_guard.in_flight, 5)
