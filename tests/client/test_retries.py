from __future__ import annotations

import threading

import pytest

from tamiz import retries
from tamiz.retries import Counter, RetryBudget, Stats, pause


def test_pauses_grow_to_a_second_and_are_never_the_same() -> None:
    for attempt in range(1, 40):
        pauses = [pause(attempt) for _ in range(200)]
        longest = min(1.0, 0.02 * 2**attempt)
        assert 0 <= min(pauses) < longest / 4
        assert longest * 3 / 4 < max(pauses) <= longest


def test_a_budget_lets_eight_in_a_hundred_calls_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries.time, "monotonic", lambda: 0.0)
    budget, repeated = RetryBudget(), 0
    for _ in range(10_000):
        budget.earn()
        repeated += budget.spend()
    assert repeated == pytest.approx(10 + 800, abs=2)


def test_a_spent_budget_gives_one_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(retries.time, "monotonic", lambda: now)
    budget = RetryBudget()
    while budget.spend():
        pass
    granted = 0
    for _ in range(1000):
        now += 0.01
        granted += budget.spend()
    assert granted in (9, 10)


def test_counts_from_many_threads_are_all_there() -> None:
    counter = Counter()
    threads = [
        threading.Thread(target=lambda: [counter.count(requests=1, images=2) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.stats == Stats(requests=2000, images=4000)


def test_amplification_is_what_was_sent_for_each_that_was_needed() -> None:
    assert Stats().amplification == 1.0
    stats = Stats(requests=110, overloaded=6, lost=3, gone=1)
    assert stats.retries == 10
    assert stats.amplification == pytest.approx(1.1)
