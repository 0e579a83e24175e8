"""The judge of a candidate: what was seen of it and of the live version at the same time, and what is beyond limits.

Every comparison is with the live version in the same second, so that what befalls both, such as a busy machine, is not
held against the candidate. Nothing here talks to a server, and time is counted in looks.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tamiz.arguments import check_number
from tamiz.engine.events import CallEvent, RequestAnswered, RequestFailed, ShadowCompared

from .checks import MEDIAN, P99, Agreement, Check, Errors, Latency, Measure


@dataclass(frozen=True, kw_only=True)
class WatchLimits:
    """When a candidate is rolled back.

    Attributes:
        errors: by how much its error rate may be above that of the live version, from 0 to below 1: 0.01 allows it to
            fail for one request in a hundred more.
        latency: how many times as large as the live version's its 99th percentile of latency, and its median, may be,
            1 or more. It is beyond this limit when more of its requests take so many times the percentile of the live
            version than of the live version's own: one in a hundred more for the 99th percentile, one in four more for
            the median.
        agreement: how many of its answers must agree with the live version's, above 0 and below 1. The default catches
            a candidate that is broken and not one that is better: a model that is right for 95 % of the images where
            the live version is right for 85 % cannot agree on more than 90 %.
        false_alarm: the probability that a candidate within all limits is ever rolled back, above 0 and below 1.

    Raises:
        UsageError: a limit is outside of its range.
    """

    errors: float = 0.01
    latency: float = 1.5
    agreement: float = 0.8
    false_alarm: float = 0.001

    def __post_init__(self) -> None:
        check_number("errors", self.errors, "a share from 0 to below 1", above=-1e-9, below=1)
        check_number("latency", self.latency, "a ratio of 1 or more", above=1 - 1e-9)
        for name in ("agreement", "false_alarm"):
            check_number(name, getattr(self, name), "a share above 0 and below 1", above=0, below=1)


@dataclass(frozen=True)
class Answer:
    """What one version did with one image.

    Attributes:
        seconds: from the request to the answer or the failure.
        labels: what it answered; answers with equal labels agree. None if it failed.
        error: why it failed; empty if it answered.
    """

    seconds: float
    labels: Hashable | None = None
    error: str = ""


@dataclass(frozen=True)
class Pair:
    """One image that both versions were asked about, one right after the other and in random order.

    Attributes:
        live: what the live version did.
        candidate: what the candidate did.
    """

    live: Answer
    candidate: Answer


@dataclass(frozen=True)
class WatchFinding:
    """What was seen of one measure, of one source.

    Attributes:
        measure: ``errors``, ``p99``, ``median`` or ``agreement``.
        source: whose requests they are: those of all clients, as the server counts them, the watcher's own, or those of
            one client in this process.
        live: error rate, or percentile in seconds, of the live version; None for the agreement.
        candidate: the same of the candidate, or the share of its answers that agree; None if nothing was seen.
        count: number of requests, or compared answers, of the candidate.
        limit: see `WatchLimits`.
        p_value: the smallest probability of a false alarm at which the candidate would be, or have been, rolled back
            because of this.
        breached: whether the limit is exceeded.
    """

    measure: Measure
    source: str
    live: float | None
    candidate: float | None
    count: int
    limit: float
    p_value: float
    breached: bool

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        seen = f"of {self.count:,} {self.source}"
        if self.candidate is None:
            return f"{self.measure} {seen}"
        live = self.live or 0.0
        match self.measure:
            case "errors":
                return (
                    f"errors {self.candidate:.2%} {seen}, of the live version {live:.2%} "
                    f"(limit: {100 * self.limit:g} points more)"
                )
            case "p99" | "median":
                return (
                    f"{self.measure} {1000 * self.candidate:.1f} ms {seen}, of the live version {1000 * live:.1f} ms "
                    f"(limit: {self.limit:g} times that)"
                )
            case "agreement":
                return f"agreement with the live version {self.candidate:.2%} {seen} (limit: {100 * self.limit:g}%)"


class Judge:
    """Takes in what both versions do, and says after each look whether the candidate is beyond a limit.

    Methods may be called from any thread.

    Args:
        limits: the limits.
        looks: the expected number of looks.
        live: number of the live version.
        candidate: number of the candidate.
        seed: seed of the random pairing of requests.
    """

    def __init__(self, limits: WatchLimits, looks: int, *, live: int, candidate: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self._versions = live, candidate
        self._lock = threading.Lock()
        self._served = Errors("requests of all clients", limits.errors, looks, random)
        self._probed = Errors("probes", limits.errors, looks, random)
        self._called = Errors("requests of this client", limits.errors, looks, random)
        self._probe_latencies = [Latency("probes", limits.latency, looks, random, kind) for kind in (P99, MEDIAN)]
        self._call_latencies = [
            Latency("requests of this client", limits.latency, looks, random, kind) for kind in (P99, MEDIAN)
        ]
        self._probe_agreement = Agreement("probes", limits.agreement, looks)
        self._shadow_agreement = Agreement("shadow answers", limits.agreement, looks)
        self._checks: tuple[Check, ...] = (
            self._served,
            self._probed,
            self._called,
            *self._probe_latencies,
            *self._call_latencies,
            self._probe_agreement,
            self._shadow_agreement,
        )
        # The false alarms of several tests add up at most (Bonferroni).
        self._alpha = limits.false_alarm / len(self._checks)

    def add_pair(self, pair: Pair) -> None:
        """Take in a probe: both versions were asked about one image."""
        failed = bool(pair.live.error), bool(pair.candidate.error)
        with self._lock:
            self._probed.add_pair(*failed)
            if not any(failed):
                for check in self._probe_latencies:
                    check.add_pair(pair.live.seconds, pair.candidate.seconds)
                if pair.live.labels is not None:
                    self._probe_agreement.add(1, int(pair.live.labels == pair.candidate.labels))

    def add_requests(self, live: tuple[int, int], candidate: tuple[int, int]) -> None:
        """Take in what the server has counted since the last look.

        Args:
            live: number of failed requests to the live version, and of all requests to it.
            candidate: the same of the candidate.
        """
        with self._lock:
            self._served.add(*live, candidate=False)
            self._served.add(*candidate, candidate=True)

    def on_event(self, event: CallEvent) -> None:
        """Take in an event of a client in this process: ``tamiz.Client(…, on_event=judge.on_event)``."""
        live, candidate = self._versions
        with self._lock:
            match event:
                case RequestAnswered(method="ModelInfer", version=version) if version in self._versions:
                    self._called.add(0, 1, candidate=version == candidate)
                    for check in self._call_latencies:
                        check.add(event.seconds, event.images, candidate=version == candidate)
                case RequestFailed(method="ModelInfer", version=version) if version in self._versions:
                    self._called.add(1, 1, candidate=version == candidate)
                case ShadowCompared(version=version, live_version=other, error=None) if (other, version) == (
                    live,
                    candidate,
                ):
                    self._shadow_agreement.add(event.images, event.agreements)

    def look(self) -> WatchFinding | None:
        """Judge by everything up to now; return the breach that is clearest, or None."""
        with self._lock:
            for check in self._checks:
                check.look()
            clearest = min(self._checks, key=lambda check: check.test.p_value)
            return self._describe(clearest) if self._is_breached(clearest) else None

    def findings(self) -> list[WatchFinding]:
        """What was seen, without sources of which nothing was."""
        with self._lock:
            return [finding for check in self._checks if (finding := self._describe(check)).count]

    @property
    def least_answered(self) -> int:
        """The number of requests that the version with fewer of them has answered.

        There are two sources: the server's counts, which include the probes, and the probes alone. The larger number is
        returned, because the server's counts begin at the first look and may miss probes before it.
        """
        with self._lock:
            return max(min(check.answered()) for check in (self._served, self._probed))

    def _describe(self, check: Check) -> WatchFinding:
        p_value = min(1.0, check.test.p_value * len(self._checks))
        return WatchFinding(check.measure, check.source, *check.seen(), check.limit, p_value, self._is_breached(check))

    def _is_breached(self, check: Check) -> bool:
        return check.test.p_value <= self._alpha
