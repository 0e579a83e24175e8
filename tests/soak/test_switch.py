"""Promotions between versions of different input size and class count under load."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import Served
from graphs import grey_level, make_spec

from tamiz import Prediction
from tamiz_server.promotion import promote

SWITCHES = 50
CALLERS = 8
PER_S = 150
"""Calls per second, started at a fixed rate whether or not earlier ones have been answered."""


@pytest.mark.soak
def test_promotions_between_versions_of_different_size_and_classes_give_no_wrong_label(
    served: Served,
) -> None:
    name = served.new_name()
    served.publish(name, make_spec([f"first {i}" for i in range(10)], 28, 28, "L"))
    served.publish(name, make_spec([f"second {i}" for i in range(12)], 32, 32, "L"))
    # The grey of an image is one of ten levels, which determines its label under either version.
    lists = {1: ("first", 10), 2: ("second", 12)}
    ended = threading.Event()
    answers: Counter[tuple[int, bool]] = Counter()
    in_job: Counter[tuple[int, bool]] = Counter()
    failures: list[str] = []
    latencies: list[float] = []
    began = time.perf_counter()

    def due() -> Iterator[int]:
        for call in itertools.count():
            wait = began + call / PER_S - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            if ended.is_set():
                return
            yield call

    def image(number: int) -> np.ndarray:
        return np.full((40, 30), grey_level(number % 10, 10), np.uint8)

    def is_right(number: int, prediction: Prediction) -> bool:
        word, classes = lists[prediction.version]
        return prediction.label == f"{word} {round(grey_level(number % 10, 10) / 255 * (classes - 1))}"

    def call(number: int) -> None:
        try:
            prediction = client.classify(image(number))
        except Exception as exc:
            failures.append(repr(exc))
            return
        # Measured from the time when the call was due, so that waiting for a thread counts as well.
        latencies.append(time.perf_counter() - began - number / PER_S)
        answers[prediction.version, is_right(number, prediction)] += 1

    def call_many() -> None:
        """Run a job beside the single calls, at the same rate."""
        try:
            for prediction in client.classify_many(map(image, due()), batch_size=4):
                in_job[prediction.version, is_right(prediction.position, prediction)] += 1
        except Exception as exc:
            failures.append(f"job: {exc!r}")

    with served.client(name, timeout_s=10) as client:

        def switch() -> None:
            try:
                for turn in range(SWITCHES):
                    time.sleep(0.5)
                    promote(served.repository, name, 2 - turn % 2, control=served.control)
            except Exception as exc:
                failures.append(f"switch: {exc!r}")
            finally:
                ended.set()

        with ThreadPoolExecutor(CALLERS) as pool, ThreadPoolExecutor(2) as others:
            others.submit(switch)
            others.submit(call_many)
            for number in due():
                pool.submit(call, number)
    latencies.sort()
    print(
        f"{SWITCHES} switches, {sum(answers.values())} calls answered, {len(failures)} failed, "
        f"{answers[1, False] + answers[2, False]} labels wrong, {answers[1, True]} by version 1, "
        f"{answers[2, True]} by version 2; {sum(in_job.values())} images of a job, "
        f"{in_job[1, False] + in_job[2, False]} labels wrong; "
        f"p99 {latencies[int(len(latencies) * 0.99)] * 1000:.1f} ms, worst {latencies[-1] * 1000:.0f} ms"
    )
    assert not failures, failures[:3]
    assert set(answers) == set(in_job) == {(1, True), (2, True)}
    assert min(answers.values()) > 500
