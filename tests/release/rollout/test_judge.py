from __future__ import annotations

import numpy as np
import pytest

from tamiz import UsageError
from tamiz.engine.events import RequestAnswered, RequestFailed, ShadowCompared
from tamiz.errors import UnavailableError
from tamiz_release.rollout.judge import Answer, Judge, Pair, WatchFinding, WatchLimits

LIVE, CANDIDATE, LOOKS = 1, 2, 60


@pytest.fixture
def judge() -> Judge:
    return Judge(WatchLimits(), LOOKS, live=LIVE, candidate=CANDIDATE)


def ok(seconds: float = 0.01, labels: str | None = "coat") -> Answer:
    return Answer(seconds, labels)


FAILED = Answer(0.001, error="out of memory")


def look_until_breach(judge: Judge, pairs: list[Pair], looks: int = LOOKS) -> WatchFinding | None:
    for _ in range(looks):
        for pair in pairs:
            judge.add_pair(pair)
        if (breach := judge.look()) is not None:
            return breach
    return None


def test_a_candidate_that_does_the_same_is_within_all_limits(judge: Judge) -> None:
    assert look_until_breach(judge, [Pair(ok(), ok())] * 5) is None
    assert {finding.measure: finding.breached for finding in judge.findings()} == {
        "errors": False,
        "p99": False,
        "median": False,
        "agreement": False,
    }


def test_a_candidate_that_fails_is_beyond_the_limit_of_errors(judge: Judge) -> None:
    breach = look_until_breach(judge, [Pair(ok(), FAILED)] * 5)
    assert breach is not None
    assert (breach.measure, breach.source, breach.live, breach.candidate) == ("errors", "probes", 0.0, 1.0)
    assert str(breach) == (f"errors 100.00% of {breach.count} probes, of the live version 0.00% (limit: 1 points more)")


def test_failures_of_both_versions_are_not_held_against_the_candidate(judge: Judge) -> None:
    assert look_until_breach(judge, [Pair(FAILED, FAILED)] * 5) is None
    judge.add_requests((500, 1_000), (50, 100))
    assert judge.look() is None


def test_the_failures_that_the_server_counts_for_all_clients_are_judged(judge: Judge) -> None:
    breach = None
    for _ in range(LOOKS):
        judge.add_requests((0, 90), (2, 10))
        if (breach := judge.look()) is not None:
            break
    assert breach is not None
    assert (breach.measure, breach.source, breach.candidate) == ("errors", "requests of all clients", 0.2)


def test_without_requests_to_the_live_version_at_the_same_time_failures_are_not_judged(judge: Judge) -> None:
    for _ in range(LOOKS):
        judge.add_requests((0, 0), (10, 10))
        assert judge.look() is None


def test_a_candidate_that_is_slower_than_the_limit_is_found(judge: Judge) -> None:
    random = np.random.default_rng(0)
    breach = None
    for _ in range(LOOKS):
        for _ in range(5):
            live_s, candidate_s = random.gamma(20, 0.001, 2)
            judge.add_pair(Pair(ok(live_s), ok(2 * candidate_s)))
        if (breach := judge.look()) is not None:
            break
    assert breach is not None
    assert breach.measure == "median"
    assert breach.candidate > 1.5 * breach.live > 0
    assert "times that" in str(breach)


def test_a_candidate_that_is_slow_for_some_requests_is_found(judge: Judge) -> None:
    random = np.random.default_rng(0)
    breach = None
    for look in range(LOOKS):
        for number in range(5):
            live_s, candidate_s = random.gamma(20, 0.001, 2)
            judge.add_pair(Pair(ok(live_s), ok(0.2 if (look + number) % 8 == 0 else candidate_s)))
        if (breach := judge.look()) is not None:
            break
    assert breach is not None
    assert breach.measure == "p99"
    assert breach.candidate > 1.5 * breach.live > 0
    assert "times that" in str(breach)


def test_a_candidate_that_is_slower_within_the_limit_stays(judge: Judge) -> None:
    random = np.random.default_rng(0)
    for _ in range(LOOKS):
        for _ in range(5):
            live_s, candidate_s = random.gamma(20, 0.001, 2)
            judge.add_pair(Pair(ok(live_s), ok(1.3 * candidate_s)))
        assert judge.look() is None


def test_a_machine_that_becomes_slow_for_both_versions_is_not_held_against_the_candidate(judge: Judge) -> None:
    for look in range(LOOKS):
        seconds = 0.01 if look < 30 else 1.0
        for _ in range(5):
            judge.add_pair(Pair(ok(seconds), ok(seconds)))
        assert judge.look() is None


def test_a_candidate_that_answers_otherwise_is_beyond_the_limit_of_agreement(judge: Judge) -> None:
    breach = look_until_breach(judge, [Pair(ok(), ok(labels="shirt"))] * 5)
    assert breach is not None
    assert (breach.measure, breach.candidate) == ("agreement", 0.0)
    assert "agreement with the live version 0.00% of" in str(breach)


def test_a_candidate_that_differs_on_fewer_images_than_the_limit_stays(judge: Judge) -> None:
    assert look_until_breach(judge, [Pair(ok(), ok())] * 9 + [Pair(ok(), ok(labels="shirt"))]) is None


def test_probes_without_labels_are_not_compared(judge: Judge) -> None:
    assert look_until_breach(judge, [Pair(ok(labels=None), ok(labels=None))] * 5) is None
    assert {finding.measure for finding in judge.findings()} == {"errors", "p99", "median"}


def answered(version: int, seconds: float, images: int = 1) -> RequestAnswered:
    return RequestAnswered(1, "grpc://a:1", "ModelInfer", "clothing", version, images, seconds)


def test_the_events_of_a_client_are_judged(judge: Judge) -> None:
    error = UnavailableError("lost", url="grpc://a:1")
    breach = None
    for _ in range(LOOKS):
        for _ in range(9):
            judge.on_event(answered(LIVE, 0.01))
        judge.on_event(RequestFailed(1, "grpc://a:1", "ModelInfer", "clothing", CANDIDATE, 1, 0.1, error))
        if (breach := judge.look()) is not None:
            break
    assert breach is not None
    assert (breach.measure, breach.source) == ("errors", "requests of this client")


def test_the_latencies_of_a_client_are_judged(judge: Judge) -> None:
    breach = None
    for _ in range(LOOKS):
        for _ in range(9):
            judge.on_event(answered(LIVE, 0.01))
        judge.on_event(answered(CANDIDATE, 0.02))
        judge.on_event(answered(99, 5.0))
        if (breach := judge.look()) is not None:
            break
    assert breach is not None
    assert (breach.measure, breach.source) == ("p99", "requests of this client")


def split(judge: Judge, slower: float, images: int = 16, canary: float = 0.9) -> WatchFinding | None:
    """Batches that a sticky canary splits, so that most images of each are in the request to the candidate."""
    random = np.random.default_rng(0)
    for _ in range(LOOKS):
        for _ in range(5):
            to_candidate = int(random.binomial(images, canary))
            for version, part, factor in ((LIVE, images - to_candidate, 1.0), (CANDIDATE, to_candidate, slower)):
                if part:
                    seconds = factor * (0.002 + 0.005 * part) * float(random.gamma(100, 0.01))
                    judge.on_event(answered(version, seconds, part))
        if (breach := judge.look()) is not None:
            return breach
    return None


def test_a_sticky_canary_whose_requests_have_more_images_is_not_taken_for_slow(judge: Judge) -> None:
    assert split(judge, slower=1.0) is None


def test_requests_of_equal_size_are_compared_also_where_sizes_differ(judge: Judge) -> None:
    breach = split(judge, slower=3.0, images=8, canary=0.5)
    assert breach is not None
    assert (breach.measure, breach.source) == ("median", "requests of this client")
    assert breach.candidate > 1.5 * breach.live > 0


def test_the_answers_of_a_shadow_are_judged(judge: Judge) -> None:
    breach = None
    for _ in range(LOOKS):
        event = ShadowCompared(1, "grpc://a:1", "clothing", CANDIDATE, LIVE, 8, 4, 0.01, 0.01, None)
        judge.on_event(event)
        if (breach := judge.look()) is not None:
            break
    assert breach is not None
    assert (breach.measure, breach.source, breach.candidate) == ("agreement", "shadow answers", 0.5)


def test_of_several_breaches_the_clearest_is_told(judge: Judge) -> None:
    for _ in range(20):
        judge.add_pair(Pair(ok(), FAILED))
    for _ in range(40):
        judge.add_pair(Pair(ok(), ok(labels="shirt")))
    breach = judge.look()
    assert breach is not None
    assert breach.p_value == min(finding.p_value for finding in judge.findings())


def test_requests_count_as_seen_only_when_both_versions_answered(judge: Judge) -> None:
    judge.add_requests((0, 500), (3, 10))
    judge.add_pair(Pair(ok(), ok()))
    judge.look()
    assert judge.least_answered == 7


def test_findings_are_json(judge: Judge) -> None:
    judge.add_pair(Pair(ok(), ok()))
    judge.look()
    assert judge.findings()[0].to_dict() == {
        "measure": "errors",
        "source": "probes",
        "live": 0.0,
        "candidate": 0.0,
        "count": 1,
        "limit": 0.01,
        "p_value": 1.0,
        "breached": False,
    }


@pytest.mark.parametrize(
    ("limit", "value"),
    [("errors", -0.1), ("errors", 1.0), ("latency", 0.9), ("agreement", 0.0), ("agreement", 1.0), ("false_alarm", 0)],
)
def test_a_limit_outside_of_its_range_is_rejected(limit: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{limit}: "):
        WatchLimits(**{limit: value})
