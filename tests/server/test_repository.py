from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from graphs import make_spec, write_grey_graph

from tamiz import ModelSpec, RepositoryError
from tamiz.served_version import live_versions
from tamiz_server.repository import Repository, sha256

SPEC = make_spec(["a", "b"])
OTHER = make_spec(["c", "d", "e"], 32, 32, "RGB")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_grey_graph(tmp_path / "graph.onnx", SPEC)


def test_the_first_version_is_live_and_a_later_one_waits(repository: Repository, graph: Path) -> None:
    assert repository.publish("pets", graph, SPEC) == 1
    assert repository.publish("pets", graph, OTHER) == 2
    assert [(v.version, v.live, v.spec) for v in repository.versions("pets")] == [
        (1, True, SPEC),
        (2, False, OTHER),
    ]


def test_a_version_holds_the_graph_its_spec_and_how_it_came_to_be(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC, manifest={"run": "r1"})
    folder = repository.path / "pets" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx", "spec.json"]
    assert (folder / "model.onnx").read_bytes() == graph.read_bytes()
    assert ModelSpec.from_json((folder / "spec.json").read_text()) == SPEC
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["onnx_sha256"] == sha256(graph)
    assert (manifest["run"], manifest["version"]) == ("r1", 1)


def test_promote_and_rollback_go_there_and_back(repository: Repository, graph: Path) -> None:
    for _ in range(3):
        repository.publish("pets", graph, SPEC)
    repository.promote("pets", 3)
    repository.promote("pets", 2)
    assert repository.live("pets").version == 2
    repository.rollback("pets")
    assert repository.live("pets").version == 3
    repository.rollback("pets")
    assert repository.live("pets").version == 1
    with pytest.raises(RepositoryError, match="nothing to go back to"):
        repository.rollback("pets")


def test_promoting_the_live_version_again_changes_nothing(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    before = (repository.path / "pets" / "config.pbtxt").read_text()
    repository.promote("pets", 1)
    assert (repository.path / "pets" / "config.pbtxt").read_text() == before


def test_the_number_of_a_deleted_version_is_never_given_again(repository: Repository, graph: Path) -> None:
    for _ in range(3):
        repository.publish("pets", graph, SPEC)
    shutil.rmtree(repository.path / "pets" / "3")
    assert repository.publish("pets", graph, SPEC) == 4
    shutil.rmtree(repository.path / "pets" / "4")
    repository.promote("pets", 2)
    assert repository.publish("pets", graph, SPEC) == 5


def test_a_version_that_was_live_and_is_deleted_is_passed_over_or_told(repository: Repository, graph: Path) -> None:
    for _ in range(3):
        repository.publish("pets", graph, SPEC)
    repository.promote("pets", 2)
    repository.promote("pets", 3)
    shutil.rmtree(repository.path / "pets" / "2")
    with pytest.raises(RepositoryError, match="version 2 is to be live and is not on disk"):
        repository.rollback("pets")
    assert repository.live("pets").version == 3
    repository.promote("pets", 1)
    repository.rollback("pets")
    assert repository.live("pets").version == 3


def test_publishing_leaves_alone_what_an_operator_has_live(repository: Repository, graph: Path) -> None:
    for _ in range(2):
        repository.publish("pets", graph, SPEC)
    before = repository.config("pets")
    both = repository.config("pets")
    both.version_policy.specific.versions.append(2)
    repository.restore("pets", both, instead_of=before)
    assert repository.publish("pets", graph, SPEC) == 3
    assert live_versions(repository.config("pets")) == [1, 2]


def test_a_damaged_version_does_not_keep_others_from_going_live(repository: Repository, graph: Path) -> None:
    for _ in range(3):
        repository.publish("pets", graph, SPEC)
    repository.promote("pets", 2)
    (repository.path / "pets" / "2" / "spec.json").write_text("damaged")
    repository.rollback("pets")
    assert repository.live("pets").version == 1
    with pytest.raises(RepositoryError, match="version 2 is not whole"):
        repository.promote("pets", 2)
    assert repository.publish("pets", graph, SPEC) == 4


def test_a_change_since_then_is_not_restored_over(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    repository.publish("pets", graph, SPEC)
    before, after = repository.promote("pets", 2)
    repository.publish("pets", graph, SPEC)
    repository.restore("pets", before, instead_of=after)
    assert repository.live("pets").version == 2


def test_only_publishing_makes_a_repository(repository: Repository) -> None:
    with pytest.raises(RepositoryError, match="no model repository"):
        repository.promote("pets", 1)
    assert not repository.path.exists()


def test_only_models_stand_in_the_repository_and_nothing_beside_it(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    repository.publish("pets", graph, SPEC)
    repository.promote("pets", 2)
    assert [entry.name for entry in repository.path.iterdir()] == ["pets"]
    assert {entry.name for entry in repository.path.parent.iterdir()} == {"models", "graph.onnx"}


def test_publishing_at_once_gives_each_its_own_version(repository: Repository, graph: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: repository.publish("pets", graph, SPEC), range(16)))
    assert sorted(versions) == list(range(1, 17))
    assert len(repository.versions("pets")) == 16
    assert len([key for key in repository.config("pets").parameters if key.startswith("tamiz.spec.")]) == 16


def test_a_publish_killed_at_any_moment_leaves_a_whole_repository(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    code = (
        "import sys; from tamiz import ModelSpec; from tamiz_server.repository import Repository\n"
        "spec = ModelSpec.from_json(sys.argv[3])\n"
        "print('go', flush=True)\n"
        "while True: Repository(sys.argv[1]).publish('pets', sys.argv[2], spec)"
    )
    command = [sys.executable, "-c", code, str(repository.path), str(graph), SPEC.to_json()]
    for pause in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(0.05 + 0.013 * pause)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        process.stdout.close()
        # Every version can be read, the live one is still the first, and publishing goes on.
        versions = repository.versions("pets")
        assert versions[0].live
        assert repository.publish("pets", graph, SPEC) == versions[-1].version + 1


@pytest.mark.parametrize("name", ["", "../pets", "a/b", ".hidden", "a b", "-x"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str, repository: Repository, graph: Path) -> None:
    with pytest.raises(RepositoryError, match="model name"):
        repository.publish(name, graph, SPEC)


def test_what_is_not_there_is_told_with_the_nearest_name(repository: Repository, graph: Path) -> None:
    with pytest.raises(RepositoryError, match="no model repository"):
        repository.models()
    repository.publish("pets", graph, SPEC)
    with pytest.raises(RepositoryError, match="no model 'pet'.*did you mean 'pets'"):
        repository.versions("pet")
    with pytest.raises(RepositoryError, match="pets has no version 9; there is 1"):
        repository.promote("pets", 9)
    with pytest.raises(RepositoryError, match="none.onnx: no such file"):
        repository.publish("pets", repository.path / "none.onnx", SPEC)
    (repository.path / "pets" / "config.pbtxt").write_bytes(b"\xff")
    with pytest.raises(RepositoryError, match="config.pbtxt cannot be read"):
        repository.versions("pets")


def test_a_damaged_version_is_told(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    (repository.path / "pets" / "1" / "spec.json").write_text("{")
    with pytest.raises(RepositoryError, match="version 1 is not whole"):
        repository.versions("pets")


def test_a_place_that_cannot_be_written_is_told(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryError, match="cannot be written"):
        Repository(tmp_path / "file").publish("pets", graph, SPEC)
    if os.geteuid() != 0:  # root writes everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(RepositoryError, match="cannot be written"):
            Repository(tmp_path / "locked").publish("pets", graph, SPEC)
