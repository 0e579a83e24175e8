from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from tamiz.engine.concurrency import AdaptiveLimit, ConcurrencyLimit


def test_a_limit_admits_that_many_holders_and_the_next_one_after_a_release() -> None:
    limit = ConcurrencyLimit(2)
    assert limit.acquire() is None
    assert limit.acquire() is None
    third, fourth = limit.acquire(), limit.acquire()
    assert third is not None
    assert fourth is not None
    limit.release()
    assert third.done()
    assert not fourth.done()


def test_a_cancelled_wait_passes_its_slot_on() -> None:
    limit = ConcurrencyLimit(1)
    limit.acquire()
    second, third = limit.acquire(), limit.acquire()
    assert second is not None
    assert third is not None
    limit.cancel(second)
    limit.release()
    assert third.done()
    # Cancelling a slot that was already taken frees it.
    limit.cancel(third)
    assert limit.acquire() is None


def test_no_more_threads_than_the_limit_hold_a_slot() -> None:
    limit, lock = ConcurrencyLimit(3), threading.Lock()
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            if (turn := limit.acquire()) is not None:
                turn.result(10)
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.0001)
            with lock:
                inside -= 1
            limit.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def serve(adaptive: AdaptiveLimit, clock: Clock, images_per_s: Callable[[int], float], seconds: float) -> list[int]:
    """Answer requests of 8 images at the throughput of the current limit; returns the limits over time."""
    end, limits = clock.now + seconds, []
    while clock.now < end:
        clock.now += 8 / images_per_s(adaptive.limit)
        adaptive.record_reply(8)
        limits.append(adaptive.limit)
    return limits


@pytest.mark.parametrize(("knee", "best"), [(1, range(1, 5)), (6, range(5, 11)), (40, range(32, 65))])
def test_the_adaptive_limit_rises_while_throughput_rises_and_not_beyond(knee: int, best: range, clock: Clock) -> None:
    adaptive = AdaptiveLimit(clock=clock)
    limits = serve(adaptive, clock, lambda limit: 500.0 * min(limit, knee), 120)
    late = limits[len(limits) // 2 :]
    assert sum(limit in best for limit in late) / len(late) > 0.9


def test_refusals_at_the_same_moment_halve_the_limit_only_once(clock: Clock) -> None:
    adaptive = AdaptiveLimit(clock=clock)
    serve(adaptive, clock, lambda limit: 500.0 * limit, 10)
    before = adaptive.limit
    clock.now += 1
    for _ in range(before):
        adaptive.record_overload()
    assert adaptive.limit == before // 2
    for _ in range(20):
        clock.now += 1
        adaptive.record_overload()
    assert adaptive.limit == 1
    serve(adaptive, clock, lambda limit: 500.0 * limit, 60)
    assert adaptive.limit > 8, "it climbs again"


def test_the_adaptive_limit_settles_despite_noisy_throughput(clock: Clock) -> None:
    random, adaptive = np.random.default_rng(0), AdaptiveLimit(clock=clock)
    limits = serve(adaptive, clock, lambda limit: 500.0 * min(limit, 3) * random.normal(1, 0.3), 600)
    late = limits[len(limits) // 4 :]
    assert sum(2 <= limit <= 6 for limit in late) / len(late) > 0.9


def test_a_fixed_limit_does_not_change(clock: Clock) -> None:
    adaptive = AdaptiveLimit(5, clock=clock)
    serve(adaptive, clock, lambda limit: 500.0 * limit, 20)
    adaptive.record_overload()
    assert adaptive.limit == 5
