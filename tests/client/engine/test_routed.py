"""Calls while a candidate is rolled out, to scripted servers in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from scripted_servers import Harness, Server

from tamiz import CallRetried, InvalidImageError, Prediction, Rollout, ShadowCompared, errors
from tamiz.engine.exchange import REFRESH_S
from tamiz.engine.shadow import MOST_IN_FLIGHT

MakeHarness = Callable[..., Harness]


def images(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (28, 28), np.uint8) for _ in range(count)]


def test_a_canary_answers_its_share_of_the_calls_and_each_prediction_names_its_version(
    make_harness: MakeHarness,
) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.25)
    harness = make_harness(server)
    predictions = [harness.classify() for _ in range(2000)]
    by_candidate = sum(prediction.version == 2 for prediction in predictions)
    assert abs(by_candidate - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5
    assert {(prediction.version, prediction.label) for prediction in predictions} == {(1, "v1 3"), (2, "v2 3")}
    assert harness.engine.counter.stats.candidate_images == by_candidate
    assert len(server.versions) == 2000


def test_a_batch_goes_to_one_version(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.5)
    harness = make_harness(server)
    batches = [harness.classify_batch(images(8)) for _ in range(50)]
    assert all(len({prediction.version for prediction in batch}) == 1 for batch in batches)
    assert set(server.versions) == {1, 2}


def test_a_sticky_batch_is_split_by_image_and_comes_back_in_order(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.5, sticky=True, max_batch_size=64)
    harness = make_harness(server)
    batch = [*images(30), b"damaged"]
    first, again = harness.classify_batch(batch), harness.classify_batch(batch)
    assert [outcome.position for outcome in first] == list(range(31))
    assert isinstance(first[30], InvalidImageError)
    versions = [outcome.version for outcome in first[:30]]
    assert versions == [outcome.version for outcome in again[:30]]
    assert set(versions) == {1, 2}
    assert [len(request.images) for request in server.requests if request.images] == [
        versions.count(2),
        versions.count(1),
    ] * 2
    singles = [harness.classify(image).version for image in batch[:30]]
    assert singles == versions


def test_an_image_is_prepared_again_for_a_candidate_with_another_preprocessing(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=1.0, resize="pad")
    harness = make_harness(server)
    wide = np.full((28, 56), 255, np.uint8)
    assert harness.classify(wide).version == 2
    (sent,) = server.requests[-1].images
    assert sent[0, 0, 0] == 0, "the candidate pads with black"


@pytest.mark.parametrize(
    "failure",
    [
        errors.ModelNotFoundError("gone", version=2),
        errors.InferenceError("broken", version=2),
        errors.UnavailableError("lost", version=2),
        errors.OverloadedError("full", version=2),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_the_live_version_answers_when_the_candidate_fails(
    make_harness: MakeHarness, failure: errors.ServerError
) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=1.0)
    server.candidate_script.extend([failure] * 100)
    harness = make_harness(server)
    assert harness.classify().version == 1
    assert server.versions == [2, 1]
    (retried,) = [event for event in harness.events if isinstance(event, CallRetried)]
    assert retried.error is failure
    assert harness.engine.counter.stats.retries == 1


@pytest.mark.parametrize("sticky", [False, True])
def test_the_live_version_answers_within_the_deadline_when_the_candidate_hangs(
    make_harness: MakeHarness, sticky: bool
) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.5 if sticky else 1.0, sticky=sticky)
    server.candidate_takes_s = 60.0
    harness = make_harness(server, timeout_s=8.0)
    began = harness.clock.now
    assert {prediction.version for prediction in harness.classify_batch(images(8))} == {1}
    assert harness.clock.now == pytest.approx(began + 4.0)
    assert harness.engine.counter.stats.candidate_failed == 1
    harness.classify()
    assert harness.timeouts[-1] in (4.0, 8.0), "only a candidate has half of the time"


def test_a_candidate_that_ended_costs_one_retry_and_is_forgotten(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=1.0)
    harness = make_harness(server)
    harness.classify()
    server.candidate, server.canary = None, 0.0
    assert [harness.classify().version for _ in range(3)] == [1, 1, 1]
    assert server.versions == [2, 2, 1, 1, 1]


def test_a_canary_that_was_promoted_answers_everything(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.5)
    harness = make_harness(server)
    harness.classify()
    server.version, server.candidate, server.canary = 2, None, 0.0
    assert {harness.classify().version for _ in range(10)} == {2}


def test_a_rollout_that_begins_is_noticed_in_the_background_without_a_call_waiting_for_it(
    make_harness: MakeHarness,
) -> None:
    server = Server("grpc://one:8001")
    harness = make_harness(server)
    harness.classify()
    server.candidate, server.canary = 2, 1.0
    harness.clock.now += REFRESH_S
    assert harness.classify().version == 1
    assert len(harness.background) == 1
    assert harness.classify().version == 1
    assert len(harness.background) == 1, "one question at a time"
    harness.run_background()
    assert harness.classify().version == 2
    assert harness.engine.classification.latest.rollout == Rollout(2, canary=1.0)
    assert server.methods.count("ModelConfig") == 2


def test_a_server_that_does_not_answer_in_the_background_changes_nothing(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001")
    harness = make_harness(server)
    harness.classify()
    server.config_script.append(errors.UnavailableError("lost"))
    harness.clock.now += REFRESH_S
    harness.classify()
    harness.run_background()
    assert harness.classify().version == 1
    assert harness.engine.connections.endpoints[0].ready


def test_an_answer_in_the_background_does_not_bring_a_version_back_that_a_call_found_gone(
    make_harness: MakeHarness,
) -> None:
    server = Server("grpc://one:8001")
    harness = make_harness(server)
    harness.classify()
    harness.clock.now += REFRESH_S
    harness.classify()
    server.version = 2
    assert harness.classify().version == 2
    server.version = 1
    harness.run_background()
    assert harness.engine.connections.endpoints[0].served.version == 2


def test_a_pinned_version_is_not_routed(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.5, shadow=1.0)
    harness = make_harness(server, version=2)
    assert {harness.classify().version for _ in range(20)} == {2}
    assert not harness.background
    live = make_harness(server, version=1)
    assert {live.classify().version for _ in range(20)} == {1}


def test_a_pinned_version_that_is_not_served_is_an_error_that_names_those_that_are(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.5)
    harness = make_harness(server, version=7)
    with pytest.raises(errors.ModelNotFoundError, match="does not serve version 7; it serves 1, 2"):
        harness.classify()


def test_a_shadow_is_sent_its_share_of_the_calls_after_they_have_their_answers(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, shadow=0.25)
    harness = make_harness(server)
    sent = 0
    for _ in range(2000):
        assert harness.classify().version == 1
        assert server.versions[-1] == 1, "the candidate has not been asked yet"
        sent += len(harness.background)
        harness.run_background()
    assert abs(sent - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5
    stats = harness.engine.counter.stats
    assert (stats.shadow_requests, stats.shadow_agreements, stats.shadow_differences) == (sent, 0, sent)


def test_a_shadow_counts_agreements_by_label_and_reports_both_latencies(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, shadow=1.0, takes_s=0.5)
    server.label_prefix = "label"
    harness = make_harness(server)
    harness.classify_batch(images(5))
    harness.run_background()
    (event,) = [event for event in harness.events if isinstance(event, ShadowCompared)]
    assert (event.version, event.live_version, event.images, event.agreements) == (2, 1, 5, 5)
    assert event.live_seconds == 0.5
    assert event.error is None
    server.answer_index = 4
    harness.classify_batch(images(5))
    harness.run_background()
    stats = harness.engine.counter.stats
    assert (stats.shadow_agreements, stats.shadow_differences, stats.shadow_live_s) == (5, 5, 1.0)


@pytest.mark.parametrize("failure", [errors.InferenceError("broken"), RuntimeError("a bug")], ids=["error", "bug"])
def test_a_shadow_that_fails_is_counted_and_changes_nothing_else(make_harness: MakeHarness, failure: Exception) -> None:
    server = Server("grpc://one:8001", candidate=2, shadow=1.0)
    server.candidate_script.append(failure)
    harness = make_harness(server)
    assert isinstance(harness.classify(), Prediction)
    harness.run_background()
    stats = harness.engine.counter.stats
    assert (stats.shadow_errors, stats.retries, stats.shadow_differences) == (1, 0, 0)
    assert harness.events[-1].error is failure
    assert harness.engine.connections.endpoints[0].ready


def test_a_slow_shadow_is_skipped_and_never_holds_up_calls(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, shadow=1.0)
    harness = make_harness(server)
    for _ in range(MOST_IN_FLIGHT + 3):
        harness.classify()
    assert len(harness.background) == MOST_IN_FLIGHT
    assert harness.engine.counter.stats.shadow_skipped == 3
    harness.run_background()
    harness.classify()
    assert len(harness.background) == 1


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("kind", [np.array, bytearray, memoryview])
def test_a_shadow_is_sent_what_the_caller_sent_also_if_the_caller_reuses_its_buffer(
    make_harness: MakeHarness, resize: str, kind: Callable[[Any], Any]
) -> None:
    first, second = (
        pixels if kind is np.array else bytearray(cv2.imencode(".bmp", pixels)[1].tobytes())
        for pixels in (np.full((28, 28), grey, np.uint8) for grey in (7, 200))
    )
    frame = kind(first)
    server = Server("grpc://one:8001", candidate=2, shadow=1.0, resize=resize)
    harness = make_harness(server)
    harness.classify(frame)
    kept = server.requests[-1].images[0].copy()
    frame[:] = second
    harness.run_background()
    assert server.versions == [1, 2]
    np.testing.assert_array_equal(server.requests[-1].images[0], kept)


def test_a_process_without_threads_left_skips_shadows_and_news_of_rollouts_and_answers_its_callers(
    make_harness: MakeHarness,
) -> None:
    server = Server("grpc://one:8001", candidate=2, shadow=1.0)
    harness = make_harness(server)
    harness.has_threads = False
    for _ in range(MOST_IN_FLIGHT + 2):
        harness.clock.now += REFRESH_S
        assert harness.classify().version == 1
    assert harness.engine.counter.stats.shadow_skipped == MOST_IN_FLIGHT + 2
    harness.has_threads = True
    harness.clock.now += REFRESH_S
    harness.classify()
    assert len(harness.background) == 2


def test_a_canary_may_be_a_shadow_of_the_other_calls(make_harness: MakeHarness) -> None:
    server = Server("grpc://one:8001", candidate=2, canary=0.5, shadow=1.0)
    harness = make_harness(server)
    by_live = 0
    for _ in range(50):
        by_live += harness.classify().version == 1
        harness.run_background()
    assert harness.engine.counter.stats.shadow_requests == by_live > 0
