"""Statistics of paired data."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from tamiz_release.paired_statistics import macro_f1, mcnemar, newcombe


def test_the_interval_of_a_published_table_is_the_published_one() -> None:
    # Newcombe (1998), method 10: 36, 12, 2 and 0 of 50 pairs. The paper has the first proportion minus the second.
    assert newcombe(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_the_interval_holds_the_true_difference_in_about_95_of_100_samples() -> None:
    random = np.random.default_rng(0)
    for shares in ([0.7, 0.05, 0.15, 0.1], [0.3, 0.2, 0.2, 0.3], [0.93, 0.01, 0.03, 0.03]):
        true = shares[2] - shares[1]
        intervals = [newcombe(*table) for table in random.multinomial(200, shares, 2_000).tolist()]
        assert 0.935 < np.mean([low <= true <= high for low, high in intervals]) < 0.985


@pytest.mark.parametrize(
    "table", [(43, 0, 0, 7), (10, 0, 0, 0), (0, 0, 0, 10), (0, 5, 5, 0), (0, 10, 0, 0), (1, 0, 0, 0)]
)
def test_the_interval_of_an_extreme_table_contains_the_difference(table: tuple[int, int, int, int]) -> None:
    both, first, second, neither = table
    low, high = newcombe(*table)
    assert -1 <= low <= (second - first) / sum(table) <= high <= 1
    assert high - low > 0.02
    # Exchanging the models changes the sign.
    assert newcombe(both, second, first, neither) == pytest.approx((-high, -low))


def test_the_p_value_is_that_of_a_binomial_test() -> None:
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(12, 2) == mcnemar(2, 12) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert 0 < mcnemar(4_000, 5_000) < 1e-20


def test_the_weighted_macro_f1_is_that_of_the_repeated_images() -> None:
    random = np.random.default_rng(0)
    targets, predicted = random.integers(0, 2, (2, 40, 3))
    weights = random.multinomial(40, np.full(40, 1 / 40), 5)
    for weight, f1 in zip(weights, macro_f1(weights.astype(np.float64), targets, predicted), strict=True):
        repeated = np.repeat(np.arange(40), weight)
        expected = sklearn.metrics.f1_score(targets[repeated], predicted[repeated], average="macro")
        assert f1 == pytest.approx(expected)
