"""Watches in memory: a simulated server with random errors, latencies and answers, and a clock that does not wait."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from tamiz.errors import UnavailableError
from tamiz.transports.requests import VersionCounts
from tamiz_release.rollout.judge import Answer, Judge, Pair, WatchFinding, WatchLimits
from tamiz_release.rollout.observation import PATIENCE_S, observe
from tamiz_release.rollout.probes import TIMEOUT_S
from tamiz_server.promotion import RolloutEnded

WATCH_S = 120.0
PROBES_PER_S = 5.0


@dataclass(frozen=True)
class Behaviour:
    """How a simulated version behaves."""

    errors: float = 0.005
    slower: float = 1.0
    stalls: float = 0.0
    right: float = 0.93
    hangs: bool = False


@dataclass
class SimulatedRollout:
    """A server with two versions under load, a tenth of which goes to the candidate."""

    candidate: Behaviour
    seed: int = 0
    bad_from_s: float = 0.0
    time_s: float = 0.0
    ends_s: float = float("inf")
    silent: tuple[float, float] = (float("inf"), float("inf"))
    restarts_s: float = float("inf")
    both: bool = False
    look_s: float = 0.0
    probes: int = 0
    looks: int = 0
    slept: int = 0
    counted: list[list[int]] = field(default_factory=lambda: [[0, 0], [0, 0]])

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def behaviours(self) -> tuple[Behaviour, Behaviour]:
        live = self.candidate if self.both else Behaviour()
        return live, self.candidate if self.time_s >= self.bad_from_s else Behaviour()

    def clock(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept += 1
        self.time_s += seconds

    def is_in_force(self) -> bool:
        self.looks += 1
        self.time_s += self.look_s
        if self.silent[0] <= self.time_s < self.silent[1]:
            raise UnavailableError("lost", url="grpc://a:1")
        return self.time_s < self.ends_s

    def counts(self) -> tuple[VersionCounts, VersionCounts]:
        if self.time_s >= self.restarts_s:
            self.restarts_s, self.counted = float("inf"), [[0, 0], [0, 0]]
        for counts, requests, behaviour in zip(self.counted, (90, 10), self.behaviours(), strict=True):
            if behaviour.hangs:
                # Triton counts a request when it ends.
                continue
            failed = int(self.random.binomial(requests, behaviour.errors))
            counts[0] += requests - failed
            counts[1] += failed
        live, candidate = (
            VersionCounts(number + 1, answered, failed) for number, (answered, failed) in enumerate(self.counted)
        )
        return live, candidate

    def probe(self) -> Pair:
        self.probes += 1
        # What slows the machine down slows both versions down.
        load = 1 + self.random.exponential() * (self.random.random() < 0.05)
        answers = []
        for behaviour in self.behaviours():
            seconds = load * behaviour.slower * float(self.random.gamma(40, 0.0005))
            if behaviour.hangs:
                self.time_s += TIMEOUT_S
                answers.append(Answer(TIMEOUT_S, error="timed out"))
                continue
            # A pause of the garbage collector, or an image that is computed on a slow path.
            seconds *= 10 if self.random.random() < behaviour.stalls else 1
            self.time_s += seconds
            failed = self.random.random() < behaviour.errors
            label = "right" if self.random.random() < behaviour.right else "wrong"
            answers.append(Answer(seconds, error="failed") if failed else Answer(seconds, label))
        return Pair(*answers)


def watch(
    rollout: SimulatedRollout, *, watch_s: float = WATCH_S, probes_per_s: float = PROBES_PER_S
) -> WatchFinding | None:
    judge = Judge(WatchLimits(), int(watch_s), live=1, candidate=2, seed=rollout.seed)
    return observe(rollout, judge, watch_s=watch_s, probes_per_s=probes_per_s, clock=rollout.clock, sleep=rollout.sleep)


BAD = {
    "errors": Behaviour(errors=0.1),
    "p99": Behaviour(stalls=0.15),
    "median": Behaviour(slower=2.0),
    "agreement": Behaviour(right=0.5),
}


@pytest.mark.parametrize("measure", [*BAD])
def test_a_bad_candidate_is_found_within_the_watch_in_20_of_20_runs(measure: str) -> None:
    breaches = [watch(SimulatedRollout(BAD[measure], seed)) for seed in range(20)]
    assert [breach and breach.measure for breach in breaches] == [measure] * 20


def test_a_good_candidate_is_never_rolled_back_in_20_runs() -> None:
    assert [watch(SimulatedRollout(Behaviour(), seed)) for seed in range(20)] == [None] * 20


def test_a_candidate_that_becomes_bad_during_the_watch_is_found() -> None:
    rollout = SimulatedRollout(Behaviour(errors=0.5), bad_from_s=60)
    assert watch(rollout) is not None
    assert 60 < rollout.time_s < 80


def test_a_broken_candidate_is_found_within_seconds() -> None:
    rollout = SimulatedRollout(Behaviour(errors=1.0))
    assert watch(rollout) is not None
    assert rollout.time_s < 10


def test_a_watch_ends_on_time_and_sends_its_probes_at_the_given_rate() -> None:
    rollout = SimulatedRollout(Behaviour())
    assert watch(rollout, watch_s=20) is None
    assert rollout.time_s == pytest.approx(20, abs=0.1)
    assert rollout.probes == pytest.approx(20 * PROBES_PER_S, abs=2)
    assert rollout.slept < 200


@pytest.mark.parametrize(("slower", "within_s"), [(20.0, 25.0), (100.0, 100.0)])
def test_a_candidate_so_slow_that_probes_come_late_is_found_all_the_same(slower: float, within_s: float) -> None:
    rollouts = [SimulatedRollout(Behaviour(slower=slower), seed) for seed in range(5)]
    breaches = [watch(rollout) for rollout in rollouts]
    assert [breach and breach.measure for breach in breaches] == ["median"] * 5
    assert max(rollout.time_s for rollout in rollouts) < within_s


def test_a_candidate_that_hangs_is_found_by_its_probes_alone() -> None:
    rollout = SimulatedRollout(Behaviour(hangs=True))
    breach = watch(rollout)
    assert breach is not None
    assert (breach.measure, breach.source) == ("errors", "probes")


def test_a_slow_server_gets_fewer_probes_and_no_burst() -> None:
    rollout = SimulatedRollout(Behaviour(slower=100.0), both=True)
    assert watch(rollout, watch_s=20) is None
    assert rollout.probes < 20
    assert rollout.looks == rollout.probes


def test_slow_looks_leave_time_for_probes() -> None:
    rollout = SimulatedRollout(Behaviour(), look_s=3.0)
    assert watch(rollout) is None
    assert rollout.probes >= rollout.looks - 1


def test_the_end_of_a_rollout_is_noticed_between_slow_probes() -> None:
    rollout = SimulatedRollout(Behaviour(hangs=True), ends_s=10)
    with pytest.raises(RolloutEnded):
        watch(rollout)
    assert rollout.time_s < 20


def test_without_probes_the_counts_of_the_server_decide() -> None:
    rollout = SimulatedRollout(BAD["errors"])
    breach = watch(rollout, probes_per_s=0)
    assert breach is not None
    assert breach.source == "requests of all clients"
    assert rollout.probes == 0


def test_a_rollout_that_somebody_else_ends_is_not_judged_further() -> None:
    with pytest.raises(RolloutEnded):
        watch(SimulatedRollout(Behaviour(), ends_s=10))


def test_a_server_that_is_silent_for_a_moment_and_starts_again_from_0_is_watched_further() -> None:
    rollout = SimulatedRollout(Behaviour(), silent=(10, 20), restarts_s=15)
    assert watch(rollout, watch_s=60) is None
    assert rollout.time_s >= 60


def test_a_server_that_stays_silent_ends_the_watch() -> None:
    rollout = SimulatedRollout(Behaviour(), silent=(10, float("inf")))
    with pytest.raises(UnavailableError):
        watch(rollout)
    assert rollout.time_s == pytest.approx(10 + PATIENCE_S, abs=2)
