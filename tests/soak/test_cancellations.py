"""Calls that time out or are cancelled while others succeed: the server survives, and the client keeps nothing."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from conftest import Served
from fleet import until
from graphs import even

from tamiz import AsyncClient, Client, errors
from tamiz.transports import shared_memory
from tamiz.transports.forks import fork_guard

CALLS = 20_000
"""Calls with a timeout around the time that an answer takes."""

IMAGES = [even(index) for index in range(10)]


@pytest.mark.soak
def test_20_000_calls_that_end_early_disturb_neither_the_server_nor_other_calls(served: Served) -> None:
    """A quarter each: timeouts in threads, and cancelled tasks over gRPC, shared memory and HTTP."""
    outcomes: Counter[str] = Counter()
    ended = threading.Event()

    def keep_classifying(client: Client) -> int:
        count = 0
        while not ended.is_set():
            assert client.classify(IMAGES[count % 10]).index == count % 10
            count += 1
            time.sleep(0.01)
        return count

    def time_out(client: Client, calls: int) -> None:
        for number in range(calls):
            client.timeout_s = random.uniform(0.0005, 0.004)
            try:
                client.classify(IMAGES[number % 10])
                outcomes["thread: answered"] += 1
            except errors.DeadlineError:
                outcomes["thread: timed out"] += 1

    async def cancel(client: AsyncClient, kind: str, calls: int) -> None:
        for number in range(calls):
            try:
                async with asyncio.timeout(random.uniform(0.0005, 0.005)):
                    await client.classify(IMAGES[number % 10])
                outcomes[f"{kind}: answered"] += 1
            except TimeoutError:
                outcomes[f"{kind}: cancelled"] += 1

    async def cancel_in_four_tasks(kind: str, client: AsyncClient) -> None:
        async with client:
            await asyncio.gather(*(cancel(client, kind, CALLS // 16) for _ in range(4)))
            outcomes[f"{kind}: requests"] += client.stats.requests

    http = f"http://127.0.0.1:{served.triton.ports.http}"
    threads, files = threading.active_count(), psutil.Process().num_fds()
    began = time.monotonic()
    with served.client("grey", timeout_s=30) as good, served.client("grey") as hasty, ThreadPoolExecutor(5) as pool:
        hasty.refresh()
        kept = pool.submit(keep_classifying, good)
        try:
            for done in [pool.submit(time_out, hasty, CALLS // 16) for _ in range(4)]:
                done.result()
            outcomes["thread: requests"] += hasty.stats.requests
            for kind, client in (
                ("gRPC", AsyncClient(served.triton.url, model="grey")),
                ("HTTP", AsyncClient(http, model="grey")),
                ("memory", AsyncClient(served.triton.url, model="grey", key=served.triton.key, shared_memory=True)),
            ):
                asyncio.run(cancel_in_four_tasks(kind, client))
        finally:
            ended.set()
        assert kept.result() > 100
        until(lambda: hasty.endpoints[0].in_flight == 0)
        hasty.timeout_s = 10
        assert hasty.classify(IMAGES[3]).index == 3
    print(f"{dict(outcomes)}, {kept.result()} others in {time.monotonic() - began:.0f} s")
    assert sum(outcomes[f"{kind}: cancelled"] for kind in ("gRPC", "HTTP", "memory")) > CALLS / 8
    assert outcomes["thread: timed out"] > CALLS / 16
    assert min(outcomes[f"{kind}: requests"] for kind in ("thread", "gRPC", "HTTP", "memory")) > CALLS / 8
    until(lambda: not fork_guard.in_flight)
    until(lambda: threading.active_count() <= threads)
    until(lambda: psutil.Process().num_fds() <= files)
    assert not list(shared_memory.FOLDER.glob(f"{shared_memory.PREFIX}*"))
