"""Statistics of two models on the same images: p-value, interval and bootstrap of paired data."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tamiz_train.metrics import Targets

Z = 1.959964
"""Quantile of the normal distribution for intervals of 95 %."""


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value of McNemar's exact test, two-sided.

    It is the probability that so unequal a number of images would be right by one model alone if both were equally good
    (McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947).

    Args:
        only_first: number of images that only the first model has right.
        only_second: number of images that only the second model has right.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    # In logarithms, because the coefficients of thousands of images are too large for floats.
    logs = [
        math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1) - total * math.log(2)
        for count in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Interval of 95 % of the second accuracy minus the first, on the same images.

    Method 10 of Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17, 1998: the Wilson intervals of both accuracies, and their correlation.

    Args:
        both: number of images that both models have right.
        only_first: number of images that only the first model has right.
        only_second: number of images that only the second model has right.
        neither: number of images that both models have wrong.
    """
    total = both + only_first + only_second + neither
    margins = (both + only_second) * (only_first + neither) * (both + only_first) * (only_second + neither)
    covariance = both * neither - only_first * only_second
    # Newcombe's continuity correction of a positive correlation.
    corrected = max(covariance - total / 2, 0) if covariance > 0 else covariance
    correlation = corrected / math.sqrt(margins) if margins else 0.0
    first, second = (both + only_first) / total, (both + only_second) / total
    (first_low, first_high), (second_low, second_high) = _wilson(first, total), _wilson(second, total)

    def distance(one: float, other: float) -> float:
        # Rounding may leave a tiny negative number.
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    difference = second - first
    return (
        difference - distance(second - second_low, first_high - first),
        difference + distance(second_high - second, first - first_low),
    )


def _wilson(fraction: float, total: int) -> tuple[float, float]:
    """Wilson's interval of 95 % of a proportion."""
    centre = fraction + Z**2 / (2 * total)
    spread = Z * math.sqrt(fraction * (1 - fraction) / total + Z**2 / (4 * total**2))
    scale = 1 + Z**2 / total
    return (centre - spread) / scale, (centre + spread) / scale


def macro_f1(
    weights: npt.NDArray[np.float64], targets: Targets, predicted: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Macro F1 of several weightings of the same images, as a bootstrap draws them.

    Args:
        weights: how often each image counts, ``[weightings, images]``.
        targets: 0 or 1 ``[images, labels]``.
        predicted: 0 or 1 ``[images, labels]``.

    Returns:
        the mean F1 over the labels, ``[weightings]``.
    """
    hits, wanted, given = weights @ (targets * predicted), weights @ targets, weights @ predicted
    f1: npt.NDArray[np.float64] = (2 * hits / np.maximum(wanted + given, 1e-12)).mean(1)
    return f1
