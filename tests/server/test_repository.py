from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError
from tamiz.served_version import live_versions
from tamiz_server.promotion import promote, rollback
from tamiz_server.repository import Repository

SPEC = make_spec(["a", "b"])
OTHER = make_spec(["c", "d", "e"], 32, 32, "RGB")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_grey_graph(tmp_path / "graph.onnx", SPEC)


def test_the_first_version_is_live_at_once_and_a_later_one_is_not(repository: Repository, graph: Path) -> None:
    assert repository.publish("pets", graph, SPEC) == 1
    assert repository.publish("pets", graph, OTHER) == 2
    assert [(v.version, v.live, v.spec) for v in repository.versions("pets")] == [
        (1, True, SPEC),
        (2, False, OTHER),
    ]


def test_the_number_of_a_deleted_version_is_never_reused(repository: Repository, graph: Path) -> None:
    for _ in range(3):
        repository.publish("pets", graph, SPEC)
    shutil.rmtree(repository.path / "pets" / "3")
    assert repository.publish("pets", graph, SPEC) == 4
    shutil.rmtree(repository.path / "pets" / "4")
    promote(repository, "pets", 2)
    assert repository.publish("pets", graph, SPEC) == 5


def test_publishing_does_not_change_the_versions_that_an_operator_made_live(
    repository: Repository, graph: Path
) -> None:
    for _ in range(2):
        repository.publish("pets", graph, SPEC)
    repository.update_config("pets", lambda config: config.version_policy.specific.versions.append(2))
    assert repository.publish("pets", graph, SPEC) == 3
    assert live_versions(repository.config("pets")) == [1, 2]


def test_an_update_returns_the_configuration_before_and_after_it(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    old = repository.config("pets")
    before, after, entry = repository.update_config("pets", lambda config: config.parameters.clear())
    assert before == old
    assert after == repository.config("pets")
    assert not after.parameters
    assert entry is None


def test_an_update_that_changes_nothing_writes_nothing(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    before = (repository.path / "pets" / "config.pbtxt").stat()
    change = repository.update_config("pets", lambda config: None)
    assert change.before == change.after
    assert (repository.path / "pets" / "config.pbtxt").stat().st_ino == before.st_ino


def test_an_update_that_fails_writes_nothing(repository: Repository, graph: Path) -> None:
    def update(config: object) -> None:
        del config.instance_group[:]  # type: ignore[attr-defined]
        raise RepositoryError("rejected")

    repository.publish("pets", graph, SPEC)
    before = repository.config("pets")
    with pytest.raises(RepositoryError, match="rejected"):
        repository.update_config("pets", update)
    assert repository.config("pets") == before


def test_only_publishing_creates_a_repository(repository: Repository) -> None:
    with pytest.raises(RepositoryError, match="no model repository"):
        repository.update_config("pets", lambda config: None)
    assert not repository.path.exists()


def test_a_repository_holds_only_models_and_nothing_is_left_beside_it(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    repository.publish("pets", graph, SPEC)
    promote(repository, "pets", 2)
    assert [entry.name for entry in repository.path.iterdir()] == ["pets"]
    assert {entry.name for entry in repository.path.parent.iterdir()} == {"models", "graph.onnx"}


def test_publishing_writes_nothing_beside_the_repository(repository: Repository, graph: Path) -> None:
    repository.path.mkdir()
    os.utime(repository.path.parent, ns=(0, 0))
    for _ in range(2):
        repository.publish("pets", graph, SPEC)
    promote(repository, "pets", 2)
    assert repository.path.parent.stat().st_mtime_ns == 0


def test_a_folder_that_tamiz_did_not_publish_is_not_overwritten(repository: Repository, graph: Path) -> None:
    (repository.path / "theirs" / "1").mkdir(parents=True)
    with pytest.raises(RepositoryError, match="theirs was not published by Tamiz; publish under another name"):
        repository.publish("theirs", graph, SPEC)
    (repository.path / "theirs" / "config.pbtxt").write_text('backend: "onnxruntime"')
    with pytest.raises(RepositoryError, match="theirs was not published by Tamiz; publish under another name"):
        repository.publish("theirs", graph, SPEC)


def test_what_an_operator_wrote_survives_publications_and_promotions(repository: Repository, graph: Path) -> None:
    written = (
        "# Ana: measured on the edge boxes\n"
        'instance_group [ { count: 2 kind: KIND_CPU }, { name: "late" count: 1 rate_limiter { priority: 2 } } ]\n'
        "response_cache { enable: true } # hits are rare\n"
        "optimization { priority: PRIORITY_MAX }\n"
        'parameters { key: "execution_mode" value { string_value: "1" } }\n'
        "model_warmup { name: 'theirs' batch_size: 3 inputs { key: 'image' value { data_type: TYPE_UINT8 "
        "dims: [28, 28, 1] random_data: true } } }\n"
    )
    repository.publish("pets", graph, SPEC)
    path = repository.path / "pets" / "config.pbtxt"
    path.write_text(written + path.read_text().replace("instance_group {\n  count: 2\n}\n", ""))
    repository.publish("pets", graph, SPEC)
    promote(repository, "pets", 2)
    rollback(repository, "pets")
    assert path.read_text().startswith(written)
    repository.publish("pets", graph, OTHER)
    promote(repository, "pets", 3)
    theirs = next(warmup for warmup in repository.config("pets").model_warmup if warmup.name == "theirs")
    assert list(theirs.inputs["image"].dims) == [32, 32, 3]
    assert path.read_text().startswith(written.partition("model_warmup")[0])


def test_versions_that_are_published_concurrently_get_different_numbers(repository: Repository, graph: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: repository.publish("pets", graph, SPEC), range(16)))
    assert sorted(versions) == list(range(1, 17))
    assert len(repository.versions("pets")) == 16
    assert len([key for key in repository.config("pets").parameters if key.startswith("tamiz.spec.")]) == 16


@pytest.mark.parametrize("name", ["", "../pets", "a/b", ".hidden", "a b", "-x"])
def test_a_model_name_that_is_not_a_plain_folder_name_is_rejected(
    name: str, repository: Repository, graph: Path
) -> None:
    with pytest.raises(RepositoryError, match="model name"):
        repository.publish(name, graph, SPEC)


def test_an_unknown_model_is_an_error_with_the_closest_name(repository: Repository, graph: Path) -> None:
    with pytest.raises(RepositoryError, match="no model repository"):
        repository.models()
    repository.publish("pets", graph, SPEC)
    with pytest.raises(RepositoryError, match="no model 'pet'.*did you mean 'pets'"):
        repository.versions("pet")


def test_a_missing_graph_cannot_be_published(repository: Repository) -> None:
    with pytest.raises(RepositoryError, match="none.onnx: no such file"):
        repository.publish("pets", repository.path / "none.onnx", SPEC)


def test_a_configuration_that_is_not_text_is_an_error_with_its_path(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    (repository.path / "pets" / "config.pbtxt").write_bytes(b"\xff")
    with pytest.raises(RepositoryError, match="config.pbtxt cannot be read"):
        repository.versions("pets")


def test_a_repository_that_cannot_be_changed_is_an_error(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryError, match="cannot be changed"):
        Repository(tmp_path / "file").publish("pets", graph, SPEC)
    if os.geteuid() != 0:  # root writes everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(RepositoryError, match="cannot be changed"):
            Repository(tmp_path / "locked").publish("pets", graph, SPEC)


def test_a_repository_that_cannot_be_looked_up_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    repository = Repository(tmp_path / "loop")
    reads = [repository.models, repository.foreign_models, lambda: repository.versions("pets")]
    for read in (*reads, lambda: repository.config("pets"), lambda: repository.update_config("pets", print)):
        with pytest.raises(RepositoryError, match="cannot be read: Too many levels of symbolic links"):
            read()


def test_models_of_other_tools_are_known_as_such(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    for name in ("onnx", "ensemble", "malformed", "empty", ".hidden", "lost+found"):
        (repository.path / name).mkdir()
    (repository.path / "onnx" / "config.pbtxt").write_text('backend: "onnxruntime"')
    (repository.path / "ensemble" / "config.pbtxt").write_text('platform: "ensemble"')
    (repository.path / "malformed" / "config.pbtxt").write_text("{")
    assert repository.models() == ["pets"]
    assert repository.foreign_models() == {
        "empty": "not published by Tamiz: no config.pbtxt",
        "ensemble": "not published by Tamiz",
        "malformed": "not published by Tamiz",
        "onnx": "not published by Tamiz",
    }
    assert repository.configured() == ["ensemble", "malformed", "onnx", "pets"]


def test_a_model_of_tamiz_with_a_malformed_configuration_is_not_taken_for_that_of_another_tool(
    repository: Repository, graph: Path
) -> None:
    repository.publish("pets", graph, SPEC)
    path = repository.path / "pets" / "config.pbtxt"
    path.write_text(path.read_text() + "{")
    assert (repository.models(), repository.foreign_models()) == (["pets"], {})
    with pytest.raises(RepositoryError, match="not a model configuration"):
        repository.live_numbers("pets")
