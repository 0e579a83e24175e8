"""The decision to retry, as a table: every error in every situation of a call. No server, no clock, no randomness."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tamiz import errors
from tamiz.engine.recovery import RAISE, Cause, Decision, Situation, decide
from tamiz.transports.status import RegionNotRegisteredError, RegionRegisteredError

BACKOFF_S = 0.25

OVERLOADED = errors.OverloadedError("full")
UNAVAILABLE = errors.UnavailableError("lost")
DEADLINE = errors.DeadlineError("late")
NOT_FOUND = errors.ModelNotFoundError("gone")
REGION = RegionNotRegisteredError("which region?")
NEVER_RETRIED = [
    errors.InvalidRequestError("wrong shape"),
    errors.AccessError("no key"),
    errors.InferenceError("onnx runtime error"),
    errors.ServerError("something else"),
    RegionRegisteredError("twice"),
]
EVERY_ERROR = [OVERLOADED, UNAVAILABLE, DEADLINE, NOT_FOUND, REGION, *NEVER_RETRIED]

FLAGS = {
    "bulk": (False, True),
    "budget_allows": (False, True),
    "several_servers": (False, True),
    "another_ready": (False, True),
    "any_answered": (False, True),
    "version_known": (False, True),
    "version_gone_before": (False, True),
    "server_ready": (None, False, True),
    "registered_again": (False, True),
}


def situations(time_left_s: float = 10.0) -> Iterator[Situation]:
    """Every combination of the flags that can occur."""
    for values in itertools.product(*FLAGS.values()):
        now = Situation(**dict(zip(FLAGS, values, strict=True)), time_left_s=time_left_s, backoff_s=BACKOFF_S)
        if now.another_ready and not now.several_servers:
            continue
        yield now


def situation(**flags: bool | float | None) -> Situation:
    return Situation(backoff_s=BACKOFF_S, **flags)


def retry(cause: Cause, wait_s: float = 0.0, **effects: bool) -> Decision:
    return Decision(retry=True, cause=cause, wait_s=wait_s, **effects)


LOST = {"mark_down": True, "forget_regions": True}

# What happens: the error, the situation, and the whole decision.
TABLE = [
    # A full queue: single calls retry within the budget, batches wait for the deadline.
    (OVERLOADED, {}, retry(Cause.OVERLOADED, BACKOFF_S, spend_budget=True)),
    (OVERLOADED, {"budget_allows": False}, RAISE),
    (OVERLOADED, {"bulk": True}, retry(Cause.OVERLOADED, BACKOFF_S)),
    (OVERLOADED, {"bulk": True, "budget_allows": False}, retry(Cause.OVERLOADED, BACKOFF_S)),
    (
        OVERLOADED,
        {"several_servers": True, "another_ready": True},
        retry(Cause.OVERLOADED, BACKOFF_S, spend_budget=True),
    ),
    # A server that is lost: another one at once; the same one again if any was ever there.
    (UNAVAILABLE, {}, retry(Cause.UNAVAILABLE, BACKOFF_S, **LOST)),
    (UNAVAILABLE, {"budget_allows": False}, retry(Cause.UNAVAILABLE, BACKOFF_S, **LOST)),
    (UNAVAILABLE, {"bulk": True}, retry(Cause.UNAVAILABLE, BACKOFF_S, **LOST)),
    (UNAVAILABLE, {"several_servers": True, "another_ready": True}, retry(Cause.UNAVAILABLE, **LOST)),
    (
        UNAVAILABLE,
        {"several_servers": True, "another_ready": True, "any_answered": False},
        retry(Cause.UNAVAILABLE, **LOST),
    ),
    (UNAVAILABLE, {"any_answered": False}, Decision(**LOST)),
    (UNAVAILABLE, {"several_servers": True, "any_answered": False}, Decision(**LOST)),
    # A server that does not answer in time: another one, within the budget; otherwise the time is used up.
    (DEADLINE, {}, RAISE),
    (DEADLINE, {"bulk": True}, RAISE),
    (DEADLINE, {"several_servers": True}, RAISE),
    (
        DEADLINE,
        {"several_servers": True, "another_ready": True},
        retry(Cause.UNAVAILABLE, spend_budget=True, **LOST),
    ),
    (DEADLINE, {"several_servers": True, "another_ready": True, "budget_allows": False}, RAISE),
    (
        DEADLINE,
        {"several_servers": True, "another_ready": True, "budget_allows": False, "bulk": True},
        retry(Cause.UNAVAILABLE, **LOST),
    ),
    # A version that is no longer live: the same server at once, with the version that is live now.
    (NOT_FOUND, {}, retry(Cause.VERSION_CHANGED, avoid_server=False, forget_version=True)),
    (NOT_FOUND, {"version_gone_before": True}, RAISE),
    (
        NOT_FOUND,
        {"several_servers": True, "version_gone_before": True},
        retry(Cause.VERSION_CHANGED, BACKOFF_S, forget_version=True),
    ),
    # A model that the server does not know at all: perhaps it is starting or stopping.
    (NOT_FOUND, {"version_known": False}, Decision(ask_server=True)),
    (NOT_FOUND, {"version_known": False, "server_ready": True}, RAISE),
    (
        NOT_FOUND,
        {"version_known": False, "server_ready": False},
        retry(Cause.VERSION_CHANGED, BACKOFF_S, mark_down=True, forget_version=True),
    ),
    (
        NOT_FOUND,
        {"version_known": False, "several_servers": True, "another_ready": True},
        retry(Cause.VERSION_CHANGED, BACKOFF_S, mark_down=True, forget_version=True),
    ),
    # A shared-memory region that the server has forgotten: registered again, once.
    (REGION, {}, retry(Cause.UNAVAILABLE, BACKOFF_S, forget_regions=True)),
    (REGION, {"registered_again": True}, RAISE),
    *((error, {}, RAISE) for error in NEVER_RETRIED),
    # The candidate of a rollout: the live version of the same server answers instead, at once.
    (NOT_FOUND, {"candidate": True}, retry(Cause.VERSION_CHANGED, avoid_server=False, forget_version=True)),
    *(
        (error, {"candidate": True}, retry(Cause.CANDIDATE_FAILED, avoid_server=False))
        for error in (UNAVAILABLE, DEADLINE, REGION, *NEVER_RETRIED)
    ),
    # Except for a full queue, which retries must not make worse.
    (OVERLOADED, {"candidate": True}, retry(Cause.OVERLOADED, BACKOFF_S, spend_budget=True)),
    (OVERLOADED, {"candidate": True, "budget_allows": False}, RAISE),
]


@pytest.mark.parametrize(
    ("error", "flags", "expected"),
    [
        pytest.param(error, flags, expected, id=f"{type(error).__name__}-{','.join(flags) or 'alone'}")
        for error, flags, expected in TABLE
    ],
)
def test_the_decision_after_a_failure(error: errors.ServerError, flags: dict[str, bool], expected: Decision) -> None:
    assert decide(error, situation(**flags)) == expected


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
class TestInEverySituation:
    """Rules that hold for each error in each of the hundreds of situations."""

    def test_nothing_is_retried_after_the_deadline(self, error: errors.ServerError) -> None:
        assert {decide(error, now) for now in situations(time_left_s=0.0)} == {RAISE}

    def test_no_wait_reaches_the_deadline(self, error: errors.ServerError) -> None:
        for now in situations(time_left_s=BACKOFF_S):
            decision = decide(error, now)
            assert not decision.retry or decision.wait_s == 0

    def test_what_a_failure_reveals_about_the_server_is_kept_when_no_time_is_left_for_a_retry(
        self, error: errors.ServerError
    ) -> None:
        for early, late in zip(situations(), situations(time_left_s=BACKOFF_S), strict=True):
            first, second = decide(error, early), decide(error, late)
            for effect in ("mark_down", "forget_version", "forget_regions"):
                assert getattr(first, effect) == getattr(second, effect)

    def test_only_failures_that_a_retry_can_fix_are_retried(self, error: errors.ServerError) -> None:
        retried = any(decide(error, now).retry for now in situations())
        assert retried == (error not in NEVER_RETRIED)

    def test_the_budget_is_spent_only_by_single_calls_that_retry(self, error: errors.ServerError) -> None:
        for now in situations():
            decision = decide(error, now)
            if decision.spend_budget:
                assert decision.retry
                assert now.budget_allows
                assert not now.bulk

    def test_a_batch_is_retried_whenever_a_single_call_is(self, error: errors.ServerError) -> None:
        for now in situations():
            single = decide(error, now)
            if single.retry and not now.bulk:
                bulk = decide(error, Situation(**{**vars(now), "bulk": True}))
                assert (bulk.retry, bulk.cause, bulk.wait_s) == (True, single.cause, single.wait_s)

    def test_a_decision_does_not_both_retry_and_ask_and_waits_only_to_retry(self, error: errors.ServerError) -> None:
        for now in situations():
            decision = decide(error, now)
            assert not (decision.retry and decision.ask_server)
            assert decision.retry or decision.wait_s == 0

    def test_a_server_is_asked_at_most_once_about_its_readiness(self, error: errors.ServerError) -> None:
        for now in situations():
            if now.server_ready is not None:
                assert not decide(error, now).ask_server

    def test_the_server_that_failed_is_avoided_unless_it_only_changed_its_version(
        self, error: errors.ServerError
    ) -> None:
        for now in situations():
            decision = decide(error, now)
            if decision.retry and not decision.avoid_server:
                assert decision.cause is Cause.VERSION_CHANGED
                assert not now.version_gone_before


def test_the_table_covers_hundreds_of_cases() -> None:
    assert sum(1 for _ in situations()) * len(EVERY_ERROR) >= 5000
