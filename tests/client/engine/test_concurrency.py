from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from tamiz.engine.concurrency import AdaptiveLimit, ConcurrencyLimit


def test_a_limit_admits_so_many_holders_and_the_next_when_one_releases() -> None:
    limit = ConcurrencyLimit(2)
    assert limit.acquire() is None
    assert limit.acquire() is None
    third, fourth = limit.acquire(), limit.acquire()
    assert third is not None
    assert fourth is not None
    limit.release()
    assert third.done()
    assert not fourth.done()


def test_a_cancelled_wait_passes_the_slot_on() -> None:
    limit = ConcurrencyLimit(1)
    limit.acquire()
    second, third = limit.acquire(), limit.acquire()
    assert second is not None
    assert third is not None
    limit.cancel(second)
    limit.release()
    assert third.done()
    # A slot that was taken already and is cancelled becomes free again.
    limit.cancel(third)
    assert limit.acquire() is None


def test_threads_that_hold_a_slot_are_never_more_than_the_limit() -> None:
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


def serve(subject: AdaptiveLimit, clock: Clock, images_per_s: Callable[[int], float], seconds: float) -> list[int]:
    """Answer requests of 8 images at the throughput of the current limit; returns the limits over time."""
    end, limits = clock.now + seconds, []
    while clock.now < end:
        clock.now += 8 / images_per_s(subject.limit)
        subject.record_reply(8)
        limits.append(subject.limit)
    return limits


@pytest.mark.parametrize(("knee", "best"), [(1, range(1, 5)), (6, range(5, 11)), (40, range(32, 65))])
def test_the_adaptive_limit_rises_while_throughput_rises_and_no_further(knee: int, best: range, clock: Clock) -> None:
    subject = AdaptiveLimit(clock=clock)
    limits = serve(subject, clock, lambda limit: 500.0 * min(limit, knee), 120)
    late = limits[len(limits) // 2 :]
    assert sum(limit in best for limit in late) / len(late) > 0.9


def test_overload_halves_the_limit_once_for_all_refusals_of_a_moment(clock: Clock) -> None:
    subject = AdaptiveLimit(clock=clock)
    serve(subject, clock, lambda limit: 500.0 * limit, 10)
    before = subject.limit
    clock.now += 1
    for _ in range(before):
        subject.record_overload()
    assert subject.limit == before // 2
    for _ in range(20):
        clock.now += 1
        subject.record_overload()
    assert subject.limit == 1
    serve(subject, clock, lambda limit: 500.0 * limit, 60)
    assert subject.limit > 8, "it climbs again"


def test_the_adaptive_limit_settles_despite_the_noise_of_a_shared_machine(clock: Clock) -> None:
    random, subject = np.random.default_rng(0), AdaptiveLimit(clock=clock)
    limits = serve(subject, clock, lambda limit: 500.0 * min(limit, 3) * random.normal(1, 0.3), 600)
    late = limits[len(limits) // 4 :]
    assert sum(2 <= limit <= 6 for limit in late) / len(late) > 0.9


def test_a_fixed_limit_stays(clock: Clock) -> None:
    subject = AdaptiveLimit(5, clock=clock)
    serve(subject, clock, lambda limit: 500.0 * limit, 20)
    subject.record_overload()
    assert subject.limit == 5
