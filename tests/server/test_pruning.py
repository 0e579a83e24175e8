from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Served
from graphs import even, make_spec, write_grey_graph

from tamiz_server.config import read_published_versions
from tamiz_server.promotion import promote, rollback
from tamiz_server.pruning import prune
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout

SPEC = make_spec(["a", "b"])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with six versions of the model ``pets``."""
    repository = Repository(tmp_path / "models")
    graph = write_grey_graph(tmp_path / "graph.onnx", SPEC)
    for _ in range(6):
        repository.publish("pets", graph, SPEC)
    return repository


def test_the_newest_versions_and_those_in_use_are_kept(repository: Repository) -> None:
    promote(repository, "pets", 3)
    start_rollout(repository, "pets", 2, canary=0.1)
    assert prune(repository, "pets", 1) == [4, 5]
    assert repository.version_numbers("pets") == [1, 2, 3, 6]
    assert prune(repository, "pets", 0) == [6]
    assert prune(repository, "pets", 0) == []
    assert prune(repository, "pets", 100) == []


def test_a_rollback_is_possible_after_everything_else_was_removed(repository: Repository) -> None:
    promote(repository, "pets", 4)
    promote(repository, "pets", 5)
    assert prune(repository, "pets", 0) == [1, 2, 3, 6]
    rollback(repository, "pets")
    assert repository.live_numbers("pets") == [4]


def test_removed_versions_leave_nothing_behind_and_their_numbers_are_not_used_again(
    repository: Repository, tmp_path: Path
) -> None:
    assert prune(repository, "pets", 1, reason="disk full") == [2, 3, 4, 5]
    folder = repository.path / "pets"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "6", "config.pbtxt", "history.jsonl"]
    parameters = repository.config("pets").parameters
    assert sorted(key for key in parameters if key.startswith("tamiz.spec.")) == ["tamiz.spec.1", "tamiz.spec.6"]
    assert [(e.what, e.after, e.why) for e in repository.history("pets")[-4:]] == [
        ("prune", number, "disk full") for number in (2, 3, 4, 5)
    ]
    assert repository.publish("pets", tmp_path / "graph.onnx", SPEC) == 7


def test_what_a_killed_removal_left_is_removed_by_the_next_change(repository: Repository) -> None:
    folder = repository.path / "pets"
    (folder / "2").rename(folder / ".tamiz-staging")
    promote(repository, "pets", 3)
    assert not (folder / ".tamiz-staging").exists()
    assert repository.version_numbers("pets") == [1, 3, 4, 5, 6]


def test_a_spec_that_a_killed_removal_left_is_dropped_by_the_next_one(repository: Repository) -> None:
    shutil.rmtree(repository.path / "pets" / "2")
    assert prune(repository, "pets", 5) == []
    assert read_published_versions(repository.config("pets")) == {1, 3, 4, 5, 6}


def test_a_running_server_keeps_serving_and_its_versions_are_kept(served: Served) -> None:
    name = served.new_name()
    for _ in range(4):
        served.publish(name, SPEC)
    # On disk only: the server serves version 1, which is no longer the previous one.
    promote(served.repository, name, 3)
    promote(served.repository, name, 4)
    assert prune(served.repository, name, 1, control=served.control) == [2]
    with served.client(name) as client:
        assert client.classify(even(0)).version == 1
    assert prune(served.repository, name, 1) == [1]
    with served.client(name) as client:
        assert client.classify(even(0)).version == 1
    served.control.load(name)
    with served.client(name) as client:
        assert client.classify(even(0)).version == 4
