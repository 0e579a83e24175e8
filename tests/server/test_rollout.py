from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import Served
from graphs import even, make_spec, write_grey_graph

from tamiz import AsyncClient, ModelSpec, RepositoryError, Rollout, ShadowCompared, UsageError
from tamiz_server.promotion import RolloutEnded, describe_live, promote, rollback
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout
from tamiz_server.states import State

SPEC = make_spec(["a", "b"])


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Repository]:
    """Publish a version of the model ``pets`` for each of the specs."""

    def publish(*specs: ModelSpec, **manifest: object) -> Repository:
        repository = Repository(tmp_path / "models")
        for spec in specs:
            graph = write_grey_graph(tmp_path / "graph.onnx", spec)
            repository.publish("pets", graph, spec, manifest=manifest)
        return repository

    return publish


def states(repository: Repository) -> list[State]:
    return [version.state for version in repository.versions("pets")]


def test_a_canary_is_loaded_beside_the_live_version_which_stays_live(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC, SPEC)
    promote(repository, "pets", 3)
    start_rollout(repository, "pets", 2, canary=0.1, sticky=True)
    assert states(repository) == [State.PREVIOUS, State.CANARY, State.LIVE]
    assert repository.loaded_numbers("pets") == [2, 3]
    assert repository.live_version("pets").version == 3
    assert repository.rollout("pets") == Rollout(2, canary=0.1, sticky=True)
    parameters = repository.config("pets").parameters
    assert parameters["tamiz.canary"].string_value == "2 0.1"
    assert parameters["tamiz.sticky"].string_value == "image"
    assert "tamiz.shadow" not in parameters


def test_promoting_the_candidate_ends_its_canary(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC)
    start_rollout(repository, "pets", 2, canary=0.5, sticky=True, shadow=0.2)
    promote(repository, "pets", 2)
    assert states(repository) == [State.PREVIOUS, State.LIVE]
    assert repository.loaded_numbers("pets") == [2]
    assert not {"tamiz.canary", "tamiz.shadow", "tamiz.sticky"} & set(repository.config("pets").parameters)


def test_a_rollback_ends_a_rollout_first_and_then_undoes_promotions(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC, SPEC)
    promote(repository, "pets", 2)
    before = repository.config("pets")
    start_rollout(repository, "pets", 3, shadow=0.05)
    assert states(repository) == [State.PREVIOUS, State.LIVE, State.SHADOW]
    rollback(repository, "pets")
    assert repository.config("pets") == before
    rollback(repository, "pets")
    assert states(repository) == [State.LIVE, State.ARCHIVED, State.ARCHIVED]


def test_a_rollback_of_a_candidate_undoes_no_promotion(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC, SPEC)
    promote(repository, "pets", 2)
    start_rollout(repository, "pets", 3, canary=0.1)
    with pytest.raises(RolloutEnded, match="version 1 is not its canary or shadow any more; version 3 is"):
        rollback(repository, "pets", candidate=1)
    rollback(repository, "pets", candidate=3)
    with pytest.raises(RolloutEnded, match="version 3 is not its canary or shadow any more; it has none"):
        rollback(repository, "pets", candidate=3)
    assert repository.live_numbers("pets") == [2]


def test_a_version_can_be_promoted_only_while_it_is_the_candidate(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC)
    with pytest.raises(RolloutEnded, match="version 2 is not its canary or shadow"):
        promote(repository, "pets", 2, if_candidate=True)
    start_rollout(repository, "pets", 2, canary=0.1)
    promote(repository, "pets", 2, if_candidate=True)
    assert repository.live_numbers("pets") == [2]


def test_a_rollout_is_not_replaced_if_it_must_not_be(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC, SPEC)
    start_rollout(repository, "pets", 2, canary=0.1, replace=False)
    with pytest.raises(RepositoryError, match="version 2 is a canary, which this would end; end it first"):
        start_rollout(repository, "pets", 3, canary=0.5, replace=False)
    assert repository.rollout("pets") == Rollout(2, canary=0.1)


def test_a_share_can_be_raised_and_a_shadow_become_a_canary(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC)
    start_rollout(repository, "pets", 2, shadow=0.05)
    start_rollout(repository, "pets", 2, canary=0.1)
    assert repository.rollout("pets") == Rollout(2, canary=0.1)
    start_rollout(repository, "pets", 2, canary=0.5)
    assert repository.rollout("pets") == Rollout(2, canary=0.5)
    assert [(entry.what, entry.details) for entry in repository.history("pets")[2:]] == [
        ("shadow", {"shadow": 0.05}),
        ("canary", {"canary": 0.1}),
        ("canary", {"canary": 0.5}),
    ]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (make_spec(["a", "b"], 32, 28), r"input \[32, 28, 1\] instead of \[28, 28, 1\]"),
        (make_spec(["a", "b"], colour="RGB"), r"input \[28, 28, 3\] instead of \[28, 28, 1\]"),
        (make_spec(["a", "b", "c"]), "number of labels 3 instead of 2"),
    ],
    ids=["height", "channels", "labels"],
)
def test_a_candidate_of_another_shape_is_refused_with_the_reason(
    publish: Callable[..., Repository], spec: ModelSpec, reason: str
) -> None:
    repository = publish(SPEC, spec)
    before = (repository.path / "pets" / "config.pbtxt").read_text()
    with pytest.raises(RepositoryError, match=f"version 2 cannot be loaded beside version 1.*{reason}; make it live"):
        start_rollout(repository, "pets", 2, canary=0.1)
    assert (repository.path / "pets" / "config.pbtxt").read_text() == before
    assert len(repository.history("pets")) == 2


def test_a_candidate_with_another_accelerator_is_refused_with_the_reason(publish: Callable[..., Repository]) -> None:
    publish(SPEC)
    repository = publish(SPEC, accelerators={"cpu_execution_accelerator": [{"name": "openvino"}]})
    with pytest.raises(RepositoryError, match="accelerators .*openvino.* instead of none"):
        start_rollout(repository, "pets", 2, canary=0.1)


def test_a_rollout_needs_a_share_and_another_version_than_the_live_one(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC)
    with pytest.raises(UsageError, match="canary and shadow are both 0"):
        start_rollout(repository, "pets", 2)
    with pytest.raises(UsageError, match="sticky: .* give it with a canary"):
        start_rollout(repository, "pets", 2, shadow=0.1, sticky=True)
    with pytest.raises(RepositoryError, match="version 1 is live already"):
        start_rollout(repository, "pets", 1, canary=0.1)
    with pytest.raises(RepositoryError, match="has no version 9; its versions are 1, 2"):
        start_rollout(repository, "pets", 9, canary=0.1)


def test_the_line_about_what_is_live_tells_of_the_rollout(publish: Callable[..., Repository]) -> None:
    repository = publish(SPEC, SPEC)
    start_rollout(repository, "pets", 2, canary=0.1, sticky=True, shadow=0.05)
    assert describe_live(repository, "pets", [1]) == (
        "pets: version 1 is live, version 2 as a canary answers 0.1 of the calls, chosen by image and as a shadow is "
        f"sent 0.05 of the others in {repository.path}; a running server still serves version 1: pass its --url to "
        "have it load the change"
    )


def publish_two(served: Served, *, busy_loops: int = 0) -> str:
    name = served.new_name()
    for word in ("first", "second"):
        served.publish(name, make_spec([f"{word} {index}" for index in range(10)]), busy_loops=busy_loops)
    return name


def test_a_canary_answers_its_share_on_a_server_with_its_own_labels(served: Served) -> None:
    name = publish_two(served)
    start_rollout(served.repository, name, 2, canary=0.3, control=served.control)
    with served.client(name) as client:
        assert client.rollout == Rollout(2, canary=0.3)
        predictions = [client.classify(even(number)) for number in range(400)]
    for number, prediction in enumerate(predictions):
        assert prediction.label == f"{ {1: 'first', 2: 'second'}[prediction.version] } {number % 10}"
    by_candidate = sum(prediction.version == 2 for prediction in predictions)
    assert abs(by_candidate - 120) < 4 * (400 * 0.3 * 0.7) ** 0.5


async def test_a_sticky_choice_is_the_same_in_every_client_and_way_of_calling(served: Served) -> None:
    name = publish_two(served)
    start_rollout(served.repository, name, 2, canary=0.5, sticky=True, control=served.control)
    images = [np.random.default_rng(number).integers(0, 256, (28, 28), np.uint8) for number in range(40)]
    with served.client(name) as first, served.client(name) as second:
        single = [first.classify(image).version for image in images]
        many = [prediction.version for prediction in second.classify_many(images, batch_size=8)]
    async with AsyncClient(served.triton.url, model=name) as third:
        awaited = [(await third.classify(image)).version for image in images]
    assert single == many == awaited
    assert set(single) == {1, 2}


def test_a_shadow_is_compared_on_the_server_and_never_answers(served: Served) -> None:
    name = publish_two(served)
    start_rollout(served.repository, name, 2, shadow=1.0, control=served.control)
    events: list[ShadowCompared] = []
    client = served.client(name, on_event=lambda event: events.append(event))
    with client:
        assert {client.classify(even(number)).version for number in range(20)} == {1}
        until = time.monotonic() + 10
        while client.stats.shadow_requests + client.stats.shadow_skipped < 20 and time.monotonic() < until:
            time.sleep(0.01)
    compared = [event for event in events if isinstance(event, ShadowCompared) and event.error is None]
    assert compared
    # The labels of the versions differ in their first word.
    assert {(event.version, event.live_version, event.agreements) for event in compared} == {(2, 1, 0)}


def test_promote_canary_and_rollback_under_load_lose_no_call(served: Served) -> None:
    name = publish_two(served)
    failures: list[str] = []
    answers: Counter[int] = Counter()
    ended = threading.Event()

    def call() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            try:
                prediction = client.classify(even(number))
                assert prediction.label == f"{ {1: 'first', 2: 'second'}[prediction.version] } {number % 10}"
                answers[prediction.version] += 1
            except Exception as exc:
                failures.append(repr(exc))

    with served.client(name) as client, ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(call)
        try:
            start_rollout(served.repository, name, 2, canary=0.5, control=served.control)
            rollback(served.repository, name, control=served.control)
            start_rollout(served.repository, name, 2, shadow=0.5, control=served.control)
            promote(served.repository, name, 2, control=served.control)
            rollback(served.repository, name, control=served.control)
        finally:
            ended.set()
    assert not failures, failures[:3]
    assert answers.keys() == {1, 2}


def test_the_end_of_a_canary_takes_the_candidate_out_of_service_before_anything_is_loaded(served: Served) -> None:
    name = publish_two(served)
    start_rollout(served.repository, name, 2, canary=1.0, control=served.control)
    with served.client(name) as client:
        assert client.classify(even(3)).version == 2
        loads: list[list[int]] = []

        class Watching(type(served.control)):
            def load(self, model: str, config: object = None) -> None:
                super().load(model)
                loads.append(sorted({client.classify(even(3)).version for _ in range(5)}))

        with Watching(served.triton.url, served.triton.key) as control:
            rollback(served.repository, name, control=control)
    assert loads == [[1], [1]]
