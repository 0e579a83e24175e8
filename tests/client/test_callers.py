"""Threads, processes and event loops that classify at the same time: each caller gets the answers to its images."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import callers
import pytest
from callers import wrong_many, wrong_single
from conftest import Served
from graphs import even

from tamiz import AsyncClient, Client


def test_threads_that_share_a_client_get_their_own_answers(served: Served) -> None:
    with served.client("grey") as client, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(wrong, client, caller) for caller in range(4) for wrong in (wrong_single, wrong_many)]
        assert [call.result() for call in calls] == [0] * 8


async def test_tasks_that_share_a_client_get_their_own_answers(served: Served) -> None:
    async with AsyncClient(served.triton.url, model="grey") as client:

        async def wrong(caller: int) -> int:
            expected = [caller * 3 + number * 7 for number in range(100)]
            singles = [(await client.classify(even(index))).index for index in expected]
            many = [outcome.index async for outcome in client.classify_many(map(even, expected), batch_size=4)]
            return sum(got != index % 10 for got, index in zip(singles + many, expected * 2, strict=True))

        assert await asyncio.gather(*map(wrong, range(6))) == [0] * 6


def test_event_loops_in_threads_do_not_disturb_each_other(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def work(caller: int) -> int:
        async with AsyncClient(served.triton.url, model="grey") as client:
            expected = [caller + number for number in range(200)]
            outcomes = [outcome.index async for outcome in client.classify_many(map(even, expected), batch_size=4)]
            return sum(got != index % 10 for got, index in zip(outcomes, expected, strict=True))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda caller: asyncio.run(work(caller)), range(4))) == [0] * 4
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_an_async_client_works_on_one_event_loop_after_another(served: Served) -> None:
    client = AsyncClient(served.triton.url, model="grey")

    async def label() -> str:
        return (await client.classify(even(3))).label

    assert {asyncio.run(label()) for _ in range(3)} == {"grey 3"}
    asyncio.run(client.close())


def test_processes_that_are_spawned_get_their_own_answers(served: Served) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, initializer=callers.connect, initargs=(served.triton.url,)) as pool:
        assert [wrong for _, wrong in pool.map(callers.work, range(4))] == [0] * 4


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_processes_that_are_forked_during_calls_get_their_own_answers(
    served: Served, scheme: str, capfd: pytest.CaptureFixture[str]
) -> None:
    url = served.triton.url if scheme == "grpc" else f"http://127.0.0.1:{served.triton.ports.http}"
    ended, wrong = threading.Event(), []
    with Client(url, model="grey", timeout_s=30) as client:
        callers.client = client
        client.classify(even(1))

        def keep_calling() -> None:
            while not ended.is_set():
                wrong.append(wrong_many(client, 5, 50))

        parent = threading.Thread(target=keep_calling)
        parent.start()
        try:
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(3, mp_context=context) as pool:
                answers = list(pool.map(callers.work, range(9)))
        finally:
            ended.set()
            parent.join()
        assert [count for _, count in answers] == [0] * 9
        assert os.getpid() not in {process for process, _ in answers}
        assert set(wrong) == {0}
        assert client.classify(even(8)).index == 8, "the parent's connection still works"
    assert "skipping fork() handlers" not in capfd.readouterr().err, "gRPC was ready for each fork"
