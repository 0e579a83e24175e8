"""Checks: one measure of a candidate beside the live version, from one source, with the test that judges it."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from .sequential import MeanAbove, pair_at_random

Measure: TypeAlias = Literal["errors", "p99", "median", "agreement"]

_MOST_LATENCIES = 1_000
"""Number of latencies of a version, the latest ones, from which its percentiles are estimated."""

_DIFFERENCE = {-1.0: 0.25, 0.0: 1.0, 1.0: 0.5}
"""Values of a paired difference of two rates. The first bets assume a candidate that is worse in every seventh pair."""

_DISAGREEMENT = {0.0: 1.0, 1.0: 0.5}


@dataclass(frozen=True)
class Percentile:
    """A percentile of the latency that is judged.

    Attributes:
        measure: its name.
        quantile: the quantile, from 0 to 1.
        excess: by how much the share of the candidate's slow requests may be above that of the live version.
        least: number of latencies of the live version from which it is estimated.
    """

    measure: Measure
    quantile: float
    excess: float
    least: int


P99 = Percentile("p99", 0.99, 0.01, 50)

MEDIAN = Percentile("median", 0.5, 0.25, 10)
"""It finds a candidate that is slower throughout in seconds, also where the live version's own p99 is far off."""


class Check:
    """One measure of one source, with its test.

    Args:
        source: whose requests it is about, in the plural.
        limit: see `tamiz_release.rollout.judge.WatchLimits`.
        test: the test.
    """

    measure: Measure

    def __init__(self, source: str, limit: float, test: MeanAbove) -> None:
        self.source = source
        self.limit = limit
        self.test = test

    def look(self) -> None:
        """Have the test take in the observations since the last look."""
        raise NotImplementedError

    def seen(self) -> tuple[float | None, float | None, int]:
        """The figure of the live version, that of the candidate, and how often the latter was observed."""
        raise NotImplementedError


class Errors(Check):
    """How often requests fail."""

    measure = "errors"

    def __init__(self, source: str, limit: float, looks: int, random: np.random.Generator) -> None:
        super().__init__(source, limit, MeanAbove(_DIFFERENCE, limit, looks))
        self._random = random
        self._counts = np.zeros((2, 2), np.int64)
        self._totals = np.zeros((2, 2), np.int64)
        self._pairs = [0, 0, 0]

    def add(self, failed: int, requests: int, *, candidate: bool) -> None:
        """Take in requests to one of the versions."""
        self._counts[int(candidate)] += failed, requests

    def add_pair(self, live_failed: bool, candidate_failed: bool) -> None:
        """Take in the same request to both versions."""
        self._pairs[1 + candidate_failed - live_failed] += 1
        self._totals += (live_failed, 1), (candidate_failed, 1)

    def look(self) -> None:
        """See `Check.look`."""
        live, candidate = self._counts.tolist()
        drawn = pair_at_random(live, candidate, self._random)
        self.test.look([ours + theirs for ours, theirs in zip(self._pairs, drawn, strict=True)])
        self._totals += self._counts
        self._counts[:], self._pairs = 0, [0, 0, 0]

    def seen(self) -> tuple[float | None, float | None, int]:
        """See `Check.seen`."""
        live, candidate = (failed / requests if requests else None for failed, requests in self._totals.tolist())
        return live, candidate, int(self._totals[1, 1])

    def answered(self) -> tuple[int, int]:
        """Number of requests that the live version and the candidate have answered."""
        live, candidate = (self._totals[:, 1] - self._totals[:, 0]).tolist()
        return live, candidate


class Latency(Check):
    """How many more requests than to the live version are slow: longer than the limit times a percentile of it.

    The percentile is estimated from earlier looks, so the definition of slow is the same for both versions, and known
    before the requests that are judged by it. An inaccurate estimate makes the test no less valid. Only requests with
    equally many images are compared: a sticky canary splits batches, and may get the larger parts.
    """

    def __init__(self, source: str, limit: float, looks: int, random: np.random.Generator, kind: Percentile) -> None:
        super().__init__(source, limit, MeanAbove(_DIFFERENCE, kind.excess, looks))
        self.measure = kind.measure
        self._kind = kind
        self._random = random
        self._by_images: defaultdict[int, _Latencies] = defaultdict(_Latencies)
        self._count = 0

    def add(self, seconds: float, images: int = 1, *, candidate: bool) -> None:
        """Take in the latency of a request with so many images to one of the versions."""
        self._by_images[images].new[int(candidate)].append(seconds)

    def add_pair(self, live_s: float, candidate_s: float) -> None:
        """Take in the latencies of the same request, with one image, to both versions."""
        self._by_images[1].new_pairs.append((live_s, candidate_s))

    def look(self) -> None:
        """See `Check.look`."""
        counts = np.zeros(3, np.int64)
        for latencies in self._by_images.values():
            if len(latencies.recent[0]) >= self._kind.least:
                counts += self._compare(latencies, self.limit * self._estimate(latencies.recent[0]))
            self._count += len(latencies.new[1]) + len(latencies.new_pairs)
            latencies.age()
        self.test.look(counts.tolist())

    def _compare(self, latencies: _Latencies, slow: float) -> list[int]:
        live, candidate = ((sum(seconds > slow for seconds in new), len(new)) for new in latencies.new)
        counts = [*pair_at_random(live, candidate, self._random)]
        for live_s, candidate_s in latencies.new_pairs:
            counts[1 + (candidate_s > slow) - (live_s > slow)] += 1
        return counts

    def seen(self) -> tuple[float | None, float | None, int]:
        """See `Check.seen`: the figures are those of the requests that could be compared most often."""
        most = max(self._by_images.values(), key=lambda each: min(map(len, each.recent)), default=_Latencies())
        live, candidate = (self._estimate(recent) if recent else None for recent in most.recent)
        return live, candidate, self._count

    def _estimate(self, seconds: deque[float]) -> float:
        return float(np.quantile(np.fromiter(seconds, np.float64), self._kind.quantile))


class _Latencies:
    """Latencies of the requests with one number of images, each of the live version and of the candidate.

    Attributes:
        recent: the latest ones up to the last look.
        new: those since the last look.
        new_pairs: those since the last look of requests that were sent to both versions.
    """

    def __init__(self) -> None:
        self.recent: tuple[deque[float], ...] = deque(maxlen=_MOST_LATENCIES), deque(maxlen=_MOST_LATENCIES)
        self.new: tuple[list[float], ...] = [], []
        self.new_pairs: list[tuple[float, float]] = []

    def age(self) -> None:
        """Make the new ones recent."""
        for version, recent in enumerate(self.recent):
            recent.extend(self.new[version])
            recent.extend(pair[version] for pair in self.new_pairs)
        self.new, self.new_pairs = ([], []), []


class Agreement(Check):
    """How often the answers of both versions agree."""

    measure = "agreement"

    def __init__(self, source: str, limit: float, looks: int) -> None:
        super().__init__(source, limit, MeanAbove(_DISAGREEMENT, 1 - limit, looks))
        self._new = [0, 0]
        self._agreed, self._total = 0, 0

    def add(self, answers: int, agreed: int) -> None:
        """Take in answers of both versions to the same images, and how many of them agreed."""
        self._new = [self._new[0] + agreed, self._new[1] + answers - agreed]

    def look(self) -> None:
        """See `Check.look`."""
        self.test.look(self._new)
        self._agreed, self._total = self._agreed + self._new[0], self._total + sum(self._new)
        self._new = [0, 0]

    def seen(self) -> tuple[float | None, float | None, int]:
        """See `Check.seen`."""
        return None, self._agreed / self._total if self._total else None, self._total
