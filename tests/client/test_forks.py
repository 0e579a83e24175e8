from __future__ import annotations

import asyncio
import threading
import time

import pytest
from conftest import Served
from fleet import stalled, until
from graphs import even

from tamiz import AsyncClient, Client, errors, forks


def later(seconds: float, function) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.start()
    return timer


def test_a_fork_waits_for_the_calls_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "WAIT_S", 60)
    calls, began = forks._CallsUnderWay(), time.monotonic()
    calls.begin()
    timer = later(0.2, calls.end)
    calls.before_fork()
    assert 0.15 < time.monotonic() - began < 30
    calls.after_fork()
    timer.join()


def test_a_call_waits_for_the_fork_that_is_about_to_be() -> None:
    calls, order = forks._CallsUnderWay(), []

    def call() -> None:
        with calls:
            order.append("call")

    calls.before_fork()
    timer = later(0.0, call)
    time.sleep(0.2)
    order.append("fork")
    calls.after_fork()
    timer.join()
    assert order == ["fork", "call"]


def test_a_call_that_takes_long_does_not_keep_a_fork_for_ever() -> None:
    calls, began = forks._CallsUnderWay(), time.monotonic()
    with calls:
        calls.before_fork()
        assert forks.WAIT_S * 0.9 < time.monotonic() - began < forks.WAIT_S * 5
        # As when a client becomes garbage in the thread that forks.
        with calls:
            calls.after_fork()


async def test_every_call_ends_whatever_comes_of_it(served: Served) -> None:
    with Client(served.triton.url, model="nothing") as client, pytest.raises(errors.ModelNotFoundError):
        client.classify(even(1))
    async with AsyncClient(served.triton.url, model="grey", timeout_s=0.5) as client:
        await asyncio.gather(*(client.classify(even(index)) for index in range(20)))
        with stalled(served.triton):
            cancelled = asyncio.create_task(client.classify(even(1)))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            with pytest.raises(errors.DeadlineError):
                await client.classify(even(1))
    until(lambda: not forks.calls._calls, 5)
