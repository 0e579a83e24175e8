from __future__ import annotations

import math

import numpy as np
import pytest

from tamiz_release.rollout.sequential import MeanAbove, pair_at_random

DIFFERENCE = {-1.0: 0.25, 0.0: 1.0, 1.0: 0.5}
LOOKS = 200


def looks_until_found(
    live: float, candidate: float, *, seed: int, alpha: float, limit: float = 0.01, from_look: int = 0
) -> int | None:
    """Compare the error rates of 40 requests to the live version and 10 to the candidate in each look."""
    random = np.random.default_rng(seed)
    test = MeanAbove(DIFFERENCE, limit, LOOKS)
    # Both rates rise and fall together, as those of a machine that is overloaded at times.
    for look in range(LOOKS):
        burst = 0.2 if look % 50 > 40 else 0.0
        rate = candidate if look >= from_look else live
        failed = int(random.binomial(40, live + burst)), int(random.binomial(10, rate + burst))
        if test.look(pair_at_random((failed[0], 40), (failed[1], 10), random)) >= 1 / alpha:
            return look + 1
    return None


@pytest.mark.parametrize(("live", "candidate"), [(0.05, 0.05), (0.05, 0.06)], ids=["equal rates", "at the limit"])
def test_looking_after_every_few_requests_gives_no_more_false_alarms_than_promised(
    live: float, candidate: float
) -> None:
    runs, alpha = 200, 0.1
    alarms = sum(looks_until_found(live, candidate, seed=seed, alpha=alpha) is not None for seed in range(runs))
    assert alarms <= alpha * runs


@pytest.mark.parametrize(
    ("live", "candidate", "most"),
    [(0.0, 1.0, 5), (0.0, 0.2, 25), (0.01, 0.1, 100), (0.1, 0.4, 40)],
)
def test_a_worse_candidate_is_found_within_bounded_looks(live: float, candidate: float, most: int) -> None:
    found = [looks_until_found(live, candidate, seed=seed, alpha=0.001) for seed in range(20)]
    assert all(look is not None and look <= most for look in found), found


def test_a_fault_that_appears_late_is_found_soon_after() -> None:
    found = [looks_until_found(0.0, 0.3, seed=seed, alpha=0.001, from_look=100) for seed in range(20)]
    assert all(look is not None and 100 < look <= 130 for look in found), found


def test_what_was_found_once_is_not_forgotten() -> None:
    test = MeanAbove(DIFFERENCE, 0.01, LOOKS)
    for _ in range(10):
        test.look((0, 0, 10))
    found = test.p_value
    for _ in range(100):
        test.look((10, 0, 0))
    assert test.p_value == found < 1e-6
    assert test.wealth < 1


def test_looks_without_observations_change_nothing() -> None:
    test = MeanAbove(DIFFERENCE, 0.01, LOOKS)
    assert test.look((0, 0, 0)) == 1.0
    assert test.p_value == 1.0


def test_more_looks_and_observations_than_expected_keep_the_wealth_finite() -> None:
    test = MeanAbove({0.0: 1.0, 1.0: 0.5}, 0.2, 2)
    for _ in range(50):
        test.look((0, 1_000_000))
    assert math.isfinite(test.wealth)
    assert 0 < test.p_value < 1e-50


def test_the_wealth_is_expected_to_stay_at_1_when_the_mean_is_at_the_limit() -> None:
    # After one observation of each value, and by the probabilities of the values: a fair bet.
    limit, probabilities = 0.25, {-1.0: 0.125, 0.0: 0.5, 1.0: 0.375}
    wealths = []
    for place in range(3):
        test = MeanAbove(DIFFERENCE, limit, LOOKS)
        wealths.append(test.look([int(other == place) for other in range(3)]))
    assert math.isclose(sum(p * wealth for p, wealth in zip(probabilities.values(), wealths, strict=True)), 1.0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 100), (5, 5), (0, 0, 5)),
        ((10, 10), (0, 5), (5, 0, 0)),
        ((10, 10), (5, 5), (0, 5, 0)),
        ((3, 10), (0, 0), (0, 0, 0)),
    ],
)
def test_pairs_are_as_many_as_the_smaller_group_has_members(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[int, int, int]
) -> None:
    assert pair_at_random(first, second, np.random.default_rng(0)) == expected


def test_the_mean_difference_of_random_pairs_is_the_difference_of_the_rates() -> None:
    random = np.random.default_rng(0)
    pairs = np.sum([pair_at_random((300, 1_000), (50, 100), random) for _ in range(200)], 0)
    assert pairs.sum() == 20_000
    assert (pairs[2] - pairs[0]) / pairs.sum() == pytest.approx(0.2, abs=0.01)
