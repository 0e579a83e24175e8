"""A test that may be looked at after every observation: is the mean of a bounded variable above a limit?

A gambler starts with a wealth of 1 and bets on each observation that the mean is above the limit, at odds that are fair
if it is exactly at the limit. While the mean is at or below the limit, nobody can expect to win: the probability that
the wealth *ever* reaches ``1 / alpha`` is at most ``alpha``, however often one looks and whenever one stops (Ville's
inequality). So the wealth is an *e-process*, and the test has no fixed number of observations.

The bets are those of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the
Royal Statistical Society B 86, 2024: a fraction of the wealth that would have grown most on the observations so far
(GRAPA). Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical
Science 38, 2023, explain the whole method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_MOST = 0.9
"""The largest share of the wealth that one observation may lose, so that no single one ends the test."""

_KEPT = 0.99
"""What a look leaves of the weight of the earlier observations when the next bet is chosen."""

_STEPS = 20
"""Steps of the bisection that finds a bet: enough for six digits."""

_LARGEST = 1e100


class MeanAbove:
    """The wealth of a gambler who bets that the mean of a variable with a few possible values is above a limit.

    It holds whatever the distribution is, if the mean of each observation, given the earlier looks, is at or below
    the limit, and the observations of one look are independent of each other. The distribution may change at any time.

    A fault may appear at the first observation or after an hour, when bets on a good start would have been lost. So
    half of the wealth is bet from the first look on, and equal parts of the rest from each later look on; a mixture of
    e-processes is one too.

    Args:
        values: the possible values of the variable, and how many times each is assumed to have been seen before: this
            decides the first bets.
        limit: the limit of the mean, above the smallest value and below the largest.
        looks: the expected number of looks. After these nothing more is lost if there are further ones.
    """

    def __init__(self, values: dict[float, float], limit: float, looks: int) -> None:
        self._gains = [value - limit for value in values]
        self._seen = [*values.values()]
        self._waiting, self._betting = 1.0, 0.0
        self._stake, self._later = 0.5, 0.5 / max(looks - 1, 1)
        self._highest = 1.0

    @property
    def wealth(self) -> float:
        """The wealth after the last look."""
        return self._waiting + self._betting

    @property
    def p_value(self) -> float:
        """The smallest alpha at which the test has found the mean to be above the limit at any look so far."""
        return 1 / self._highest

    def look(self, counts: Sequence[int]) -> float:
        """Take in the observations since the last look.

        Args:
            counts: how often each value was observed, in the order of ``values``.

        Returns:
            the wealth.
        """
        if not any(counts):
            return self.wealth
        # The bet depends on earlier looks alone.
        bet = self._bet()
        growth = sum(count * math.log1p(bet * gain) for count, gain in zip(counts, self._gains, strict=True))
        stake = min(self._stake, self._waiting)
        self._waiting -= stake
        self._betting = min((self._betting + stake) * math.exp(min(growth, 200.0)), _LARGEST)
        self._stake = self._later
        self._seen = [_KEPT * before + count for before, count in zip(self._seen, counts, strict=True)]
        self._highest = max(self._highest, self.wealth)
        return self.wealth

    def _bet(self) -> float:
        """The bet that would have grown most on the observations so far: the root of the derivative of the growth."""
        weighted = [(seen * gain, gain) for seen, gain in zip(self._seen, self._gains, strict=True)]
        low, high = 0.0, _MOST / -min(self._gains)
        if sum(product for product, _ in weighted) <= 0:
            return low
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if sum(product / (1 + middle * gain) for product, gain in weighted) > 0:
                low = middle
            else:
                high = middle
        return low


def pair_at_random(
    first: tuple[int, int], second: tuple[int, int], random: np.random.Generator
) -> tuple[int, int, int]:
    """Pair the events of two groups at random, to compare how often they happen.

    The groups may be of any size: as many of the larger one are drawn as the smaller one has. If the members of the
    groups are independent, so are the pairs, and the mean of the differences is the difference of the two rates.

    Args:
        first: the number of events in the first group, and the number of its members.
        second: the same of the second group.
        random: draws the pairs.

    Returns:
        the number of pairs with an event in the first group alone, in both or neither, and in the second group alone.
    """
    size = min(first[1], second[1])
    ones, others = (int(random.hypergeometric(hits, total - hits, size)) for hits, total in (first, second))
    both = int(random.hypergeometric(ones, size - ones, others))
    return ones - both, size - (ones - both) - (others - both), others - both
