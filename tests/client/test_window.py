from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from tamiz import window
from tamiz.window import Gate, Window


def test_a_gate_lets_so_many_in_and_the_next_when_one_leaves() -> None:
    gate = Gate(2)
    assert gate.enter() is None
    assert gate.enter() is None
    third, fourth = gate.enter(), gate.enter()
    assert third is not None
    assert fourth is not None
    gate.leave()
    assert third.done()
    assert not fourth.done()


def test_a_turn_that_is_given_up_goes_to_the_next() -> None:
    gate = Gate(1)
    gate.enter()
    second, third = gate.enter(), gate.enter()
    assert second is not None
    assert third is not None
    gate.abandon(second)
    gate.leave()
    assert third.done()
    # One that has come already and is given up makes room again.
    gate.abandon(third)
    assert gate.enter() is None


def test_threads_at_a_gate_are_never_more_than_its_limit() -> None:
    gate, lock = Gate(3), threading.Lock()
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            if (turn := gate.enter()) is not None:
                turn.result(10)
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.0001)
            with lock:
                inside -= 1
            gate.leave()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(window, "time", clock)
    return clock


def serve(subject: Window, clock: Clock, images_per_s: Callable[[int], float], seconds: float) -> list[int]:
    """Answer requests of 8 images as fast as a server does that has so many under way; the limits seen."""
    end, limits = clock.now + seconds, []
    while clock.now < end:
        clock.now += 8 / images_per_s(subject.limit)
        subject.answered(8)
        limits.append(subject.limit)
    return limits


@pytest.mark.parametrize(("knee", "best"), [(1, range(1, 5)), (6, range(5, 11)), (40, range(32, 65))])
def test_the_window_rises_while_throughput_rises_and_no_further(knee: int, best: range, clock: Clock) -> None:
    subject = Window()
    limits = serve(subject, clock, lambda limit: 500.0 * min(limit, knee), 120)
    late = limits[len(limits) // 2 :]
    assert sum(limit in best for limit in late) / len(late) > 0.9


def test_a_refusal_halves_the_window_once_for_all_refusals_of_a_moment(clock: Clock) -> None:
    subject = Window()
    serve(subject, clock, lambda limit: 500.0 * limit, 10)
    before = subject.limit
    clock.now += 1
    for _ in range(before):
        subject.refused()
    assert subject.limit == before // 2
    for _ in range(20):
        clock.now += 1
        subject.refused()
    assert subject.limit == 1
    serve(subject, clock, lambda limit: 500.0 * limit, 60)
    assert subject.limit > 8, "it climbs again"


def test_the_window_finds_its_place_in_the_noise_of_a_shared_machine(clock: Clock) -> None:
    random, subject = np.random.default_rng(0), Window()
    limits = serve(subject, clock, lambda limit: 500.0 * min(limit, 3) * random.normal(1, 0.3), 600)
    late = limits[len(limits) // 4 :]
    assert sum(2 <= limit <= 6 for limit in late) / len(late) > 0.9


def test_a_fixed_window_stays(clock: Clock) -> None:
    subject = Window(5)
    serve(subject, clock, lambda limit: 500.0 * limit, 20)
    subject.refused()
    assert subject.limit == 5
