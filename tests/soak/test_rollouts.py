"""Promotions, canaries, shadows and rollbacks under open-loop load: no call fails or slows, no memory grows."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import Served
from graphs import even, make_spec, write_grey_graph

from tamiz import Client
from tamiz_server.config import ServingSettings
from tamiz_server.control import Control
from tamiz_server.promotion import promote, rollback
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout
from tamiz_server.triton import Triton

CHANGES = 50
CALLERS = 32
PER_S = 40
"""Calls per second, started at a fixed rate whether or not earlier ones have been answered."""

BEFORE_S = 30.0
PAUSE_S = 1.5
BUSY_LOOPS = 6
"""About 5 ms of one processor for an image, so that the load leaves room for the loading of a version."""

WORDS = {1: "first", 2: "second"}


class Load:
    """Calls at a fixed rate in a thread of its own, whose latencies are counted from the time when each was due."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.failures: list[str] = []
        self.answers: Counter[int] = Counter()
        self.latencies: list[tuple[float, float]] = []
        self._began = time.perf_counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def percentile(self, percent: float, began: float, ended: float) -> float:
        """A percentile in seconds of the latencies of the calls that were due between two times."""
        return float(np.percentile([seconds for due, seconds in self.latencies if began <= due < ended], percent))

    def _run(self) -> None:
        with ThreadPoolExecutor(CALLERS) as pool:
            for number in self._due():
                pool.submit(self._call, number)

    def _due(self) -> Iterator[int]:
        for number in itertools.count():
            wait = self._began + number / PER_S - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            if self._ended.is_set():
                return
            yield number

    def _call(self, number: int) -> None:
        try:
            prediction = self.client.classify(even(number))
            assert prediction.label == f"{WORDS[prediction.version]} {number % 10}"
            self.answers[prediction.version] += 1
        except Exception as exc:
            self.failures.append(repr(exc))
        due = self._began + number / PER_S
        self.latencies.append((due, time.perf_counter() - due))


@pytest.mark.soak
def test_fifty_promotions_and_rollbacks_under_load(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    for word in WORDS.values():
        spec = make_spec([f"{word} {index}" for index in range(10)])
        graph = write_grey_graph(tmp_path / "graph.onnx", spec, busy_loops=BUSY_LOOPS)
        repository.publish("grey", graph, spec)
    with (
        Triton(repository.path, log=tmp_path / "triton.log") as triton,
        Control(triton.url, triton.key) as control,
        Client(triton.url, model="grey", timeout_s=10) as client,
        Load(client) as load,
    ):
        time.sleep(BEFORE_S)
        used = [memory(triton.pid)]
        began = time.perf_counter()
        rollbacks = []
        for turn in range(CHANGES // 2):
            if turn % 5 == 4:
                start_rollout(repository, "grey", 2, canary=0.5, shadow=0.5, control=control)
                time.sleep(PAUSE_S)
            promote(repository, "grey", 2, control=control)
            time.sleep(PAUSE_S)
            asked = time.perf_counter()
            rollback(repository, "grey", control=control)
            rollbacks.append(time.perf_counter() - asked)
            time.sleep(PAUSE_S)
            if turn % 5 == 4:
                used.append(memory(triton.pid))
        ended = time.perf_counter()
    before, during = load.percentile(99, began - BEFORE_S + 5, began), load.percentile(99, began, ended)
    stats = client.stats
    print(
        f"{CHANGES} promotions and rollbacks in {ended - began:.0f} s, {sum(load.answers.values())} calls answered "
        f"({load.answers[2]} by version 2), {len(load.failures)} failed, {stats.version_changed} retried; p50 "
        f"{load.percentile(50, began, ended) * 1e3:.1f} ms, p99 {before * 1e3:.1f} ms before and {during * 1e3:.1f} ms "
        f"during ({during / before:.2f} times); rollback {np.median(rollbacks):.2f} s, worst {max(rollbacks):.2f} s; "
        f"memory {' '.join(f'{size / 1e6:.0f}' for size in used)} MB"
    )
    assert not load.failures, load.failures[:3]
    assert min(load.answers[1], load.answers[2]) > 200
    assert during <= 1.5 * before
    assert max(rollbacks) < 3
    assert used[-1] <= 1.1 * used[0]


@pytest.mark.soak
def test_the_end_of_a_canary_reaches_every_call_in_less_than_three_seconds(served: Served) -> None:
    name = served.new_name()
    for word in WORDS.values():
        served.publish(name, make_spec([f"{word} {index}" for index in range(10)]))
    start_rollout(served.repository, name, 2, canary=0.5, control=served.control)
    with served.client(name) as client, Load(client) as load:
        time.sleep(5)
        asked = time.perf_counter()
        rollback(served.repository, name, control=served.control)
        took = time.perf_counter() - asked
        answered = load.answers[2]
        time.sleep(2)
    print(f"rollback {took:.2f} s; {answered} calls answered by the canary before its end, {load.answers[2]} in all")
    assert took < 3
    assert load.answers[2] == answered > 0
    assert not load.failures, load.failures[:3]


@pytest.mark.soak
def test_a_slow_shadow_does_not_delay_answers(served: Served) -> None:
    """The p99 with a shadow of a tenth of the calls that is busy for long, beside the same load without one."""
    name = served.new_name()
    for version, word in WORDS.items():
        spec = make_spec([f"{word} {index}" for index in range(10)])
        served.publish(name, spec, busy_loops=BUSY_LOOPS * version)
    with served.client(name) as client, Load(client) as load:
        windows: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(3):
            for is_shadowed in (False, True):
                if is_shadowed:
                    start_rollout(served.repository, name, 2, shadow=0.1, control=served.control)
                elif served.repository.rollout(name) is not None:
                    rollback(served.repository, name, control=served.control)
                time.sleep(4)
                began = time.perf_counter()
                time.sleep(15)
                windows[is_shadowed].append(load.percentile(99, began, began + 15))
    without, with_shadow = np.median(windows[False]), np.median(windows[True])
    stats = client.stats
    print(
        f"p99 {without * 1e3:.1f} ms without and {with_shadow * 1e3:.1f} ms with a shadow; {stats.shadow_requests} "
        f"shadow requests, {stats.shadow_skipped} skipped, {stats.shadow_errors} errors"
    )
    assert not load.failures, load.failures[:3]
    assert load.answers.keys() == {1}
    assert stats.shadow_requests > 50
    assert with_shadow <= 1.5 * without


def memory(pid: int) -> int:
    """Resident memory in bytes of a server and its instances.

    Waits until the instances of versions that were unloaded have ended. Pages that several processes share are counted
    for each, since shares would change with the other programs of the machine.
    """
    server, until = psutil.Process(pid), time.monotonic() + 30
    while len(stubs(server)) > ServingSettings().instances and time.monotonic() < until:
        time.sleep(0.2)
    return sum(process.memory_info().rss for process in (server, *server.children(recursive=True)))


def stubs(server: psutil.Process) -> list[psutil.Process]:
    """The processes of the instances."""
    return [child for child in server.children(recursive=True) if child.name() == "triton_python_backend_stub"]
