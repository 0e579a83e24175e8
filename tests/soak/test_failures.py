"""Servers that are killed, stall or are overloaded, under load: no answer is lost or wrong, and no call hangs."""

from __future__ import annotations

import gc
import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import Served
from fleet import MODEL, Fleet, stalled
from graphs import even

from tamiz import CallEvent, Client, RequestSent, errors
from tamiz_server.config import ServingSettings

IMAGES = [even(index) for index in range(10)]


def paced(per_s: float, seconds: float) -> Iterator[int]:
    """Yield 0, 1, … at a fixed rate, whether or not earlier requests have finished (an open loop)."""
    began = time.perf_counter()
    for number in range(round(per_s * seconds)):
        wait = began + number / per_s - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        yield number


@pytest.mark.soak
def test_no_call_fails_while_one_of_three_servers_is_killed_and_restarted(tmp_path: Path) -> None:
    """Three servers of 100 images/s each, at 60 % of their total capacity."""
    capacity = 100.0
    settings = ServingSettings(max_batch_size=4, max_queue_size=64)
    sent: Counter[tuple[int, str]] = Counter()

    def count(event: CallEvent) -> None:
        if isinstance(event, RequestSent) and event.method == "ModelInfer":
            sent[int((time.monotonic() - began) / 5), event.url] += 1

    with (
        Fleet(tmp_path, 3, seconds=2 / capacity, settings=settings) as fleet,
        Client(fleet.url, model=MODEL, timeout_s=20, on_event=count) as client,
    ):
        began = time.monotonic()

        def kill_and_restart() -> None:
            time.sleep(10)
            fleet.kill(1)
            time.sleep(10)
            fleet.restart(1)

        killer = threading.Thread(target=kill_and_restart)
        killer.start()
        source = (IMAGES[number % 10] for number in paced(0.6 * 3 * capacity, 40))
        outcomes = list(client.classify_many(source, in_flight=9, batch_size=2))
        killer.join()
        urls = [server.url for server in fleet.servers]
    shares = [[sent[window, url] for url in urls] for window in range(8)]
    print(f"{len(outcomes)} images, {client.stats}; requests in each 5 s by server: {shares}")
    assert [outcome.index for outcome in outcomes] == [number % 10 for number in range(len(outcomes))]
    assert [outcome.position for outcome in outcomes] == list(range(7200))
    assert shares[3][1] < 10
    assert shares[-2][1] > 0.8 * sum(shares[-2]) / 3


@pytest.mark.soak
@pytest.mark.parametrize("end", [Fleet.kill, Fleet.stop])
def test_no_result_is_lost_while_the_only_server_of_a_job_restarts(end: Callable[..., None], tmp_path: Path) -> None:
    with (
        Fleet(tmp_path, 1, seconds=0.002) as fleet,
        Client(fleet.url, model=MODEL, timeout_s=30) as client,
    ):
        outcomes = client.classify_many(itertools.islice(itertools.cycle(IMAGES), 10_000))
        got = [next(outcomes).index for _ in range(1000)]
        for _ in range(2):
            end(fleet, 0)
            time.sleep(2)
            fleet.restart(0)
            got += [next(outcomes).index for _ in range(2000)]
        got += [outcome.index for outcome in outcomes]
    print(f"{len(got)} images, {client.stats}")
    assert got == [number % 10 for number in range(10_000)]
    assert client.stats.unavailable > 0


@pytest.mark.soak
def test_goodput_stays_high_at_three_times_the_capacity_of_a_server(tmp_path: Path) -> None:
    """A server with a capacity of 60 images/s gets three times as many calls for 30 s in an open loop, each with a
    timeout of 1 s.

    The server is so slow that its sleep limits its capacity, not the processors, which it shares with this test.
    """
    # With only two instances, which share the processors with this test, Triton loses a tenth of its throughput.
    capacity, seconds, instances = 60.0, 30.0, 3
    settings = ServingSettings(max_batch_size=1, max_queue_size=12, instances=instances)
    answers: Counter[str] = Counter()
    took: list[float] = []
    lock = threading.Lock()

    def call(number: int) -> None:
        began = time.perf_counter()
        try:
            kind = "right" if client.classify(IMAGES[number % 10]).index == number % 10 else "wrong"
        except errors.ServerError as exc:
            kind = type(exc).__name__
        with lock:
            answers[kind] += 1
            took.append(time.perf_counter() - began)

    with (
        Fleet(tmp_path, 1, seconds=instances / capacity, settings=settings) as fleet,
        Client(fleet.url, model=MODEL, timeout_s=1.0) as client,
        ThreadPoolExecutor(200) as pool,
    ):
        # Measure the real capacity, because a sleep takes longer than requested.
        began = time.perf_counter()
        list(client.classify_many(itertools.islice(itertools.cycle(IMAGES), 400), in_flight=8, batch_size=1))
        capacity = 400 / (time.perf_counter() - began)
        before, began = client.stats, time.perf_counter()
        for number in paced(3 * capacity, seconds):
            pool.submit(call, number)
        pool.shutdown()
        elapsed = time.perf_counter() - began
    stats = client.stats
    requests, retries = stats.requests - before.requests, stats.retries - before.retries
    goodput, amplification = answers["right"] / elapsed, requests / (requests - retries)
    p99, longest = statistics.quantiles(took, n=100)[98], max(took)
    print(
        f"capacity {capacity:.0f}/s, offered {3 * capacity:.0f}/s, goodput {goodput:.0f}/s "
        f"({goodput / capacity:.2f}), amplification {amplification:.3f}, p99 {p99:.3f} s, "
        f"longest {longest:.2f} s, {dict(answers)}"
    )
    assert set(answers) <= {"right", "OverloadedError", "DeadlineError"}
    assert goodput >= 0.9 * capacity
    assert amplification <= 1.1
    assert longest < 2


@pytest.mark.soak
def test_a_job_on_a_server_that_others_overload_loses_no_result(tmp_path: Path) -> None:
    settings = ServingSettings(max_batch_size=1, max_queue_size=6)
    ended = threading.Event()
    with (
        Fleet(tmp_path, 1, seconds=0.008, settings=settings) as fleet,
        Client(fleet.url, model=MODEL, timeout_s=60) as client,
        Client(fleet.url, model=MODEL, timeout_s=1) as other,
        ThreadPoolExecutor(6) as pool,
    ):

        def overload() -> None:
            while not ended.is_set():
                try:
                    other.classify(IMAGES[0])
                except errors.ServerError:
                    time.sleep(0.005)

        for _ in range(6):
            pool.submit(overload)
        began = time.perf_counter()
        try:
            outcomes = list(client.classify_many(itertools.islice(itertools.cycle(IMAGES), 1000), batch_size=1))
        finally:
            ended.set()
    elapsed = time.perf_counter() - began
    print(f"{1000 / elapsed:.0f} images/s, {client.stats.overloaded / elapsed:.1f} refused/s, {client.stats}")
    assert [outcome.index for outcome in outcomes] == [number % 10 for number in range(1000)]
    assert client.stats.overloaded > 0
    assert client.stats.overloaded / elapsed < 20


@pytest.mark.soak
def test_calls_to_a_stalled_server_end_at_their_deadline(served: Served) -> None:
    overrun = []
    with served.client("grey", timeout_s=0.5) as client:
        client.classify(IMAGES[0])
        with stalled(served.triton):
            for _ in range(20):
                began = time.perf_counter()
                # After a timeout the client tries another connection, which the server does not establish either.
                with pytest.raises((errors.DeadlineError, errors.UnavailableError)):
                    client.classify(IMAGES[0])
                overrun.append(time.perf_counter() - began - 0.5)
        client.timeout_s = 10
        assert client.classify(IMAGES[3]).index == 3
    print(f"over the deadline by {max(overrun) * 1000:.1f} ms at most, of {len(overrun)} calls")
    assert max(overrun) < 0.05


@pytest.mark.soak
def test_no_memory_thread_or_file_descriptor_leaks_in_100_000_requests(served: Served) -> None:
    process = psutil.Process()

    def state() -> tuple[int, int, float]:
        gc.collect()
        return process.num_fds(), threading.active_count(), process.memory_info().rss / 2**20

    with served.client("grey") as client:
        seen = []
        for _ in range(10):
            outcomes = client.classify_many(itertools.islice(itertools.cycle(IMAGES), 10_000), batch_size=1)
            assert [outcome.index for outcome in outcomes] == [number % 10 for number in range(10_000)]
            seen.append(state())
    print(f"file descriptors, threads, MiB after each 10,000 requests: {[(f, t, round(m, 1)) for f, t, m in seen]}")
    assert seen[-1][0] <= seen[1][0]
    assert seen[-1][1] <= seen[1][1]
    assert seen[-1][2] - seen[1][2] < 8
