"""Calls to scripted servers in memory: which requests are sent, to which server, and when. No Triton and no waiting."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from graphs import even
from scripted_servers import MODEL, Harness, Server

from tamiz import CallEvent, CallRetried, RequestAnswered, RequestFailed, RequestSent, errors
from tamiz.engine.steps import Send, Wait
from tamiz.transports.requests import (
    ModelInfer,
    Request,
    SystemSharedMemoryRegister,
)
from tamiz.transports.shared_memory import FOLDER
from tamiz.transports.status import ExpiredError, RegionNotRegisteredError, RegionRegisteredError


def overloaded() -> errors.ServerError:
    return errors.OverloadedError("full")


def lost() -> errors.ServerError:
    return errors.UnavailableError("lost")


def test_the_first_call_reads_the_version_and_the_next_does_not(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    assert harness.classify().label == "v1 3"
    assert harness.classify().version == 1
    assert one.methods == ["ModelConfig", "ModelInfer", "ModelInfer"]
    assert harness.engine.counter.stats.requests == 3


def test_a_call_is_retried_after_a_delay_when_a_queue_is_full(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    one.script.extend([overloaded(), overloaded()])
    assert harness.classify().index == 3
    assert harness.stats == (2, 0, 0)
    assert len(harness.slept) == 2


def test_an_exhausted_budget_ends_the_retries_of_single_calls_but_not_of_batches(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=60)
    one.script.extend([overloaded()] * 40)
    with pytest.raises(errors.OverloadedError):
        harness.classify()
    assert 10 <= harness.stats[0] < 30
    left = len(one.script)
    assert left > 0
    (outcome,) = harness.classify_batch([even(3)])
    assert outcome.index == 3
    assert not one.script


def test_a_call_moves_to_another_server_at_once_when_one_is_lost(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    harness = make_harness(one, two)
    one.script.append(lost())
    one.ready = False
    outcomes = [harness.classify() for _ in range(4)]
    assert {outcome.index for outcome in outcomes} == {3}
    assert harness.stats == (0, 1, 0)
    assert harness.slept == []
    assert not harness.engine.connections.endpoints[0].ready


def test_a_server_that_never_answered_is_an_error_at_once(make_harness: Callable[..., Harness], one: Server) -> None:
    harness = make_harness(one)
    one.config_script.append(lost())
    with pytest.raises(errors.UnavailableError):
        harness.classify()
    assert harness.slept == []


def test_servers_that_fail_in_turn_are_all_named_at_the_deadline(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    harness = make_harness(one, two, timeout_s=3)
    for _ in range(2):
        harness.classify()
    one.script.extend([errors.OverloadedError("full", url=one.url)] * 1000)
    two.script.extend([errors.UnavailableError("lost", url=two.url)] * 1000)
    with pytest.raises(errors.ServerError, match="2 servers failed: ") as caught:
        harness.classify()
    assert f"{one.url}: full" in str(caught.value)
    assert f"{two.url}: lost" in str(caught.value)


def test_a_call_waits_for_a_server_that_restarts(make_harness: Callable[..., Harness], one: Server) -> None:
    harness = make_harness(one)
    harness.classify()
    one.script.extend([lost()] * 5)
    assert harness.classify().index == 3
    assert harness.stats == (0, 5, 0)
    assert len(harness.slept) == 5


def test_a_server_that_does_not_come_back_is_unavailable_at_the_deadline(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=3)
    harness.classify()
    began = harness.clock.now
    one.script.extend([lost()] * 1000)
    with pytest.raises(errors.UnavailableError, match="lost"):
        harness.classify()
    assert 1.9 < harness.clock.now - began <= 3


def test_a_server_that_hangs_gets_half_of_the_timeout_while_another_is_ready(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    harness = make_harness(one, two, timeout_s=8)
    for _ in range(2):
        harness.classify()
    one.takes_s = 60
    began = harness.clock.now
    for _ in range(2):
        assert harness.classify().index == 3
    assert harness.clock.now - began == pytest.approx(4)
    assert harness.stats == (0, 1, 0)


def test_a_server_that_never_answered_gets_one_second_while_another_is_ready(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    harness = make_harness(one, two, timeout_s=8)
    one.takes_s = 60
    assert harness.classify().index == 3
    assert harness.classify().index == 3
    assert harness.clock.now == pytest.approx(1001)


def test_a_call_fails_at_its_deadline_when_all_servers_hang(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    harness = make_harness(one, two, timeout_s=2)
    for _ in range(2):
        harness.classify()
    one.takes_s = two.takes_s = 60
    began = harness.clock.now
    with pytest.raises(errors.DeadlineError):
        harness.classify()
    assert harness.clock.now - began == pytest.approx(2)


def test_a_single_server_gets_the_whole_timeout(make_harness: Callable[..., Harness], one: Server) -> None:
    harness = make_harness(one, timeout_s=2)
    harness.classify()
    assert harness.timeouts == [2, 2]
    one.takes_s = 1.5
    assert harness.classify().index == 3


def test_a_version_that_changed_is_read_and_the_image_is_prepared_again(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    assert harness.classify().label == "v1 3"
    one.version, one.labels, one.side = 2, 12, 32
    prediction = harness.classify()
    assert (prediction.label, prediction.version) == ("v2 3", 2)
    assert harness.stats == (0, 0, 1)
    assert one.methods[2:] == ["ModelInfer", "ModelConfig", "ModelInfer"]
    assert one.requests[-1].images[0].shape == (32, 32, 1)


def test_a_version_that_is_not_live_twice_in_a_row_is_an_error(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    harness.classify()
    one.script.extend([errors.ModelNotFoundError("gone"), errors.ModelNotFoundError("gone")])
    with pytest.raises(errors.ModelNotFoundError):
        harness.classify()
    assert harness.stats == (0, 0, 1)


def test_each_server_of_a_rollout_answers_with_its_own_version(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    two.version, two.labels, two.side = 2, 5, 20
    harness = make_harness(one, two)
    assert {harness.classify().label for _ in range(6)} == {"v1 3", "v2 3"}
    assert harness.stats == (0, 0, 0)


def test_an_unknown_model_is_an_error_at_once_when_the_server_is_ready(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    one.config_script.append(errors.ModelNotFoundError("unknown"))
    with pytest.raises(errors.ModelNotFoundError):
        harness.classify()
    assert one.methods == ["ModelConfig", "ServerReady", "ModelStatistics"]
    assert harness.slept == []


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["digits", "greys"], "unknown; did you mean 'greys'?"),
        (["digits", "clothing"], "unknown; known: clothing, digits"),
        ([], "unknown; the server serves no models"),
        (None, "unknown"),
        # The model was loaded in between.
        ([MODEL, "digits"], "unknown"),
    ],
)
def test_the_error_of_an_unknown_model_names_those_that_the_server_has(
    make_harness: Callable[..., Harness], one: Server, models: list[str] | None, message: str
) -> None:
    one.models = models
    one.config_script.append(errors.ModelNotFoundError("unknown", model=MODEL, url=one.url))
    with pytest.raises(errors.ModelNotFoundError) as caught:
        make_harness(one).classify()
    assert str(caught.value) == message
    assert (caught.value.model, caught.value.url) == (MODEL, one.url)


def test_a_call_waits_for_the_model_of_a_server_that_is_starting(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    one.ready = False
    one.config_script.extend([errors.ModelNotFoundError("loading"), errors.ModelNotFoundError("loading")])
    assert harness.classify().index == 3
    assert len(harness.slept) == 2


@pytest.mark.parametrize(
    "failure", [errors.InvalidRequestError("shape"), errors.InferenceError("model"), errors.AccessError("key")]
)
def test_a_failure_that_a_retry_cannot_fix_is_raised_at_once(
    make_harness: Callable[..., Harness], one: Server, failure: errors.ServerError
) -> None:
    harness = make_harness(one)
    harness.classify()
    one.script.append(failure)
    with pytest.raises(type(failure)):
        harness.classify()
    assert harness.stats == (0, 0, 0)


def test_a_batch_is_sent_in_parts_and_keeps_unreadable_images_in_their_places(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    outcomes = harness.classify_batch([b"broken", *[even(3)] * 9, b"broken", even(3)])
    assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, errors.InvalidImageError)] == [0, 10]
    assert [outcome.position for outcome in outcomes] == list(range(12))
    assert [len(request.images) for request in one.requests if isinstance(request, ModelInfer)] == [8, 2]


def test_a_batch_that_fails_gives_its_slots_back(make_harness: Callable[..., Harness], one: Server) -> None:
    harness = make_harness(one)
    for _ in range(100):
        one.script.append(errors.InferenceError("model"))
        with pytest.raises(errors.InferenceError):
            harness.classify_batch([even(3)])
    (outcome,) = harness.classify_batch([even(3)])
    assert outcome.index == 3


def test_a_request_that_timed_out_occupies_its_slot_until_the_server_has_ended_it(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=1)
    harness.classify()
    one.takes_s = 60
    limits = harness.engine.limits_for(2)
    with pytest.raises(errors.DeadlineError):
        harness.run(harness.engine.classification.classify_batch([even(3)], 1, limits, 0))
    (endpoint,) = harness.engine.connections.endpoints
    assert endpoint.in_flight == 1
    assert limits.in_flight.acquire() is None
    waiting = limits.in_flight.acquire()
    assert waiting is not None, "two slots are taken: by the request that timed out, and by the line before"
    (end,) = harness.leftovers
    end()
    assert waiting.done()
    assert endpoint.in_flight == 0


def test_requests_that_hang_on_one_server_do_not_occupy_slots_that_the_other_server_needs(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    harness = make_harness(one, two, timeout_s=8)
    for _ in range(2):
        harness.classify()
    one.takes_s = 60
    limits = harness.engine.limits_for(1)
    # A batch picks twice, so that the hanging server is the first choice after an odd number of picks.
    harness.engine.connections.pick()
    for _ in range(2):
        (outcome,) = harness.run(harness.engine.classification.classify_batch([even(3)], 1, limits, 0))
        assert outcome.index == 3
    assert len(harness.leftovers) == 1
    assert [endpoint.in_flight for endpoint in harness.engine.connections.endpoints] == [1, 0]


def test_a_request_that_timed_out_keeps_its_shared_memory_until_the_server_has_ended_it(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=1, shared_memory=True)
    harness.classify()
    first = one.requests[-1].region
    one.takes_s = 60
    with pytest.raises(errors.DeadlineError):
        harness.classify()
    one.takes_s = 0.0
    harness.classify()
    assert one.requests[-1].region != first
    (end,) = harness.leftovers
    end()
    memory = harness.engine.memory
    assert memory is not None
    assert len(memory.regions) == 2
    leased = [memory.lease(1), memory.lease(1)]
    assert first in {region.name for region in leased}, "it is used again"
    for region in leased:
        memory.give_back(region)


def test_closing_leaves_shared_memory_to_the_requests_that_the_server_has_not_ended(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=1, shared_memory=True)
    harness.classify()
    name = one.requests[-1].region
    one.takes_s = 60
    with pytest.raises(errors.DeadlineError):
        harness.classify()
    one.takes_s = 0.0
    harness.engine.close()
    assert (FOLDER / name).exists()
    assert "SystemSharedMemoryUnregister" not in one.methods
    (end,) = harness.leftovers
    end()
    assert not (FOLDER / name).exists()


def test_a_request_tells_the_server_when_its_caller_stops_waiting(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=4)
    harness.classify()
    assert one.requests[-1].deadline_us == 1_004_000_000


def test_a_server_whose_clock_is_ahead_is_told_no_deadlines(make_harness: Callable[..., Harness], one: Server) -> None:
    harness = make_harness(one, timeout_s=4)
    one.script.append(ExpiredError("the deadline of the request has passed"))
    assert harness.classify().index == 3
    assert harness.classify().index == 3
    assert harness.stats == (0, 1, 0)
    assert harness.slept == []
    assert [request.deadline_us for request in one.requests[1:]] == [1_004_000_000, None, None]


def test_a_deadline_that_has_passed_by_both_clocks_is_a_deadline_error(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=4)
    harness.classify()
    answer = one.answer

    def answer_late(request: Request[Any]) -> Any:
        harness.wall_clock.now += 5
        harness.clock.now += 5
        one.script.append(ExpiredError("the deadline of the request has passed"))
        return answer(request)

    one.answer = answer_late  # type: ignore[method-assign]
    with pytest.raises(errors.DeadlineError) as caught:
        harness.classify()
    assert type(caught.value) is errors.DeadlineError
    assert harness.engine.connections.endpoints[0].clock_agrees


def test_the_timeout_of_a_batch_is_paused_while_it_waits_for_a_slot(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=2)
    harness.classify()
    flow = harness.engine.classification.classify_batch([even(3)], 1, harness.engine.limits, 0)
    in_flight = harness.engine.limits.in_flight
    held = [in_flight.acquire() for _ in range(in_flight.limit)]
    assert held == [None] * len(held)
    prepare = next(flow)
    waiting = flow.send(harness.carry_out(prepare))
    assert isinstance(waiting, Wait)
    harness.clock.now += 60
    in_flight.release()
    send = flow.send(harness.carry_out(waiting))
    assert isinstance(send, Send)
    assert send.timeout_s == 2
    flow.close()


def test_a_call_whose_deadline_passes_before_its_image_is_prepared_is_not_sent(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, timeout_s=2)
    harness.classify()
    flow = harness.engine.classification.classify(even(3), 1)
    prepare = next(flow)
    harness.clock.now += 3
    with pytest.raises(errors.DeadlineError, match="timed out"):
        harness.carry_out(prepare)
    flow.close()
    assert one.methods.count("ModelInfer") == 1


def test_a_closed_client_raises_closed_error_whatever_its_transport_raises(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    harness.classify()
    one.script.append(ValueError("the channel is closed"))
    harness.engine.close()
    with pytest.raises(errors.ClosedError, match="closed"):
        harness.classify()


def test_events_report_what_was_sent_answered_failed_and_retried(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    one.script.append(overloaded())
    harness.classify()
    kinds = [type(event) for event in harness.events]
    assert kinds == [
        RequestSent,
        RequestAnswered,
        RequestSent,
        RequestFailed,
        CallRetried,
        RequestSent,
        RequestAnswered,
    ]
    assert len({event.call for event in harness.events}) == 1
    sent = harness.events[2]
    assert isinstance(sent, RequestSent)
    assert (sent.method, sent.model, sent.version, sent.images, sent.url) == ("ModelInfer", MODEL, 1, 1, one.url)
    retried = harness.events[4]
    assert isinstance(retried, CallRetried)
    assert (retried.cause, retried.attempt, retried.wait_s) == ("overloaded", 1, harness.slept[0])


def test_a_request_that_the_caller_abandons_is_reported_as_failed(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one)
    flow = harness.engine.classification.classify(even(3), 1)
    step = next(flow)
    assert isinstance(step, Send)
    step.on_sent()
    flow.close()
    assert [type(event) for event in harness.events] == [RequestSent, RequestFailed]


def test_an_on_event_function_that_raises_does_not_fail_the_call(
    make_harness: Callable[..., Harness], one: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: CallEvent) -> None:
        raise RuntimeError("the tracer failed")

    assert make_harness(one, on_event=fail).classify().index == 3
    assert "on_event: the function failed" in caplog.text


def test_shared_memory_is_registered_once_and_again_when_the_server_forgot_it(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, shared_memory=True)
    harness.classify()
    harness.classify()
    assert one.methods.count("SystemSharedMemoryRegister") == 1
    one.script.append(RegionNotRegisteredError("which region?"))
    assert harness.classify().index == 3
    assert one.methods.count("SystemSharedMemoryRegister") == 2
    assert harness.stats == (0, 1, 0)
    assert one.requests[-1].region is not None


def test_shared_memory_that_the_server_cannot_open_is_an_error_after_one_retry(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    harness = make_harness(one, shared_memory=True)
    one.script.extend([RegionNotRegisteredError("which region?")] * 2)
    with pytest.raises(RegionNotRegisteredError):
        harness.classify()
    assert harness.stats == (0, 1, 0)


def test_a_registration_whose_reply_was_lost_is_not_an_error(make_harness: Callable[..., Harness], one: Server) -> None:
    harness = make_harness(one, shared_memory=True)
    answer = one.answer

    def answered_before(request: Request[Any]) -> Any:
        if isinstance(request, SystemSharedMemoryRegister):
            raise RegionRegisteredError("already in manager")
        return answer(request)

    one.answer = answered_before  # type: ignore[method-assign]
    assert harness.classify().index == 3
    assert harness.stats == (0, 0, 0)


def test_the_provenance_names_the_version_and_the_server_that_answered_in_the_end(
    make_harness: Callable[..., Harness], one: Server, two: Server
) -> None:
    one.script.append(lost())
    two.version, two.labels = 2, 5
    harness = make_harness(one, two, provenance=True)
    harness.wall_clock.now = 1_700_000_000.5
    provenance = harness.classify().provenance
    assert (provenance.model, provenance.version, provenance.url) == (MODEL, 2, two.url)
    assert provenance.time == datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)
    text = two.config().parameters["tamiz.spec.2"].string_value
    assert provenance.spec_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert provenance.onnx_sha256 is None


def test_a_call_decides_about_the_provenance_of_its_own_predictions(
    make_harness: Callable[..., Harness], one: Server
) -> None:
    for default in (False, True):
        harness = make_harness(one, provenance=default)
        classification = harness.engine.classification
        for asked in (None, False, True):
            expected = default if asked is None else asked
            single = harness.run(classification.classify(even(3), 1, asked))
            (batched,) = harness.run(classification.classify_batch([even(3)], 1, harness.engine.limits, 0, asked))
            assert (single.provenance is not None, batched.provenance is not None) == (expected, expected)
