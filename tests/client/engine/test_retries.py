from __future__ import annotations

import pytest

from tamiz.engine.retries import RetryBudget, backoff


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def retried(budget: RetryBudget) -> bool:
    allowed = budget.allows()
    if allowed:
        budget.spend()
    return allowed


def test_backoffs_grow_to_a_second_and_are_spread_evenly() -> None:
    for failures in (*range(1, 40), 2000):
        backoffs = [backoff(failures) for _ in range(200)]
        longest = min(1.0, 0.02 * 2 ** min(failures, 100))
        assert 0 <= min(backoffs) < longest / 4
        assert longest * 3 / 4 < max(backoffs) <= longest


def test_a_budget_allows_retries_of_eight_percent_of_the_calls() -> None:
    budget, retries = RetryBudget(Clock()), 0
    for _ in range(10_000):
        budget.earn()
        retries += retried(budget)
    assert retries == pytest.approx(10 + 800, abs=2)


def test_an_exhausted_budget_allows_one_retry_per_second() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    while retried(budget):
        pass
    allowed = 0
    for _ in range(1000):
        clock.now += 0.01
        allowed += retried(budget)
    assert allowed in (9, 10)


def test_retries_that_were_allowed_at_the_same_moment_are_paid_back_first() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    while budget.allows():
        budget.spend()
    for _ in range(3):
        budget.spend()
    clock.now += 3.5
    assert not budget.allows()
    clock.now += 1
    assert budget.allows()
