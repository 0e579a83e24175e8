"""Verification of a repository: every file that is not as it was published is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError
from tamiz.files import sha256
from tamiz_server import verification
from tamiz_server.promotion import promote, rollback
from tamiz_server.pruning import prune
from tamiz_server.repository import Repository
from tamiz_server.verification import verify

CONFIG = "pets/config.pbtxt"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with two versions of the model ``pets`` and one of ``cars``."""
    repository = Repository(tmp_path / "models")
    for model, labels in (("pets", ["a", "b"]), ("pets", ["c", "d", "e"]), ("cars", ["f", "g"])):
        spec = make_spec(labels)
        repository.publish(model, write_grey_graph(tmp_path / "graph.onnx", spec), spec, manifest={"run": "r1"})
    return repository


def findings(repository: Repository, model: str | None = None) -> list[tuple[str, str]]:
    return [(finding.path, finding.problem) for finding in verify(repository, model).findings]


def test_a_repository_is_as_it_was_published_whatever_is_live(repository: Repository) -> None:
    verified = verify(repository)
    assert (verified.models, verified.versions, verified.files) == (2, 3, 9)
    assert (verified.findings, verified.unrecorded) == ((), ())
    promote(repository, "pets", 2)
    assert findings(repository) == []
    rollback(repository, "pets")
    # What an operator may edit is no finding.
    repository.update_config("pets", lambda config: setattr(config, "max_batch_size", 3))
    assert findings(repository) == []


@pytest.mark.parametrize("name", ["model.onnx", "spec.json", "manifest.json"])
def test_a_file_of_which_one_byte_changed_is_named(name: str, repository: Repository) -> None:
    path = repository.path / "pets" / "2" / name
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    (finding,) = verify(repository).findings
    assert (finding.path, finding.problem) == (f"pets/2/{name}", "changed")
    assert "its SHA-256 is" in finding.reason
    assert "in config.pbtxt" in finding.reason
    assert findings(repository, "cars") == []


def test_a_graph_that_was_replaced_together_with_its_hash_in_the_manifest_is_found(repository: Repository) -> None:
    ours, other = repository.path / "pets" / "2", repository.path / "pets" / "1"
    (ours / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    manifest = json.loads((ours / "manifest.json").read_bytes())
    forged = manifest | {"onnx_sha256": json.loads((other / "manifest.json").read_bytes())["onnx_sha256"]}
    (ours / "manifest.json").write_text(json.dumps(forged))
    assert findings(repository) == [
        ("pets/2/manifest.json", "changed"),
        ("pets/2/model.onnx", "changed"),
    ]


@pytest.mark.parametrize("name", ["model.onnx", "spec.json", "manifest.json"])
def test_a_file_that_was_lost_is_named(name: str, repository: Repository) -> None:
    (repository.path / "pets" / "1" / name).unlink()
    assert findings(repository) == [(f"pets/1/{name}", "missing")]


def test_a_version_that_was_lost_is_named(repository: Repository) -> None:
    (repository.path / "pets" / "1").rename(repository.path.parent / "elsewhere")
    assert findings(repository) == [("pets/1", "missing")]


def test_what_no_publication_wrote_is_named(repository: Repository) -> None:
    (repository.path / "pets" / "2" / "model.onnx.bak").write_text("x")
    (repository.path / "pets" / "notes").mkdir()
    (repository.path / "pets" / "7").mkdir()
    (repository.path / "pets" / "history.jsonl").write_text("")
    assert findings(repository) == [("pets/2/model.onnx.bak", "extra"), ("pets/7", "extra"), ("pets/notes", "extra")]


def test_a_spec_that_was_edited_in_the_configuration_is_found(repository: Repository) -> None:
    spec = make_spec(["e", "d", "c"])

    def update(config: object) -> None:
        config.parameters["tamiz.spec.2"].string_value = spec.to_json()

    repository.update_config("pets", update)
    (finding,) = verify(repository).findings
    assert (finding.path, finding.problem) == (CONFIG, "changed")
    assert finding.reason == "its spec of version 2 is not that of 2/spec.json"


def test_a_summary_that_was_edited_in_the_configuration_is_found(repository: Repository) -> None:
    def update(config: object) -> None:
        parameter = config.parameters["tamiz.summary.2"]
        parameter.string_value = json.dumps(json.loads(parameter.string_value) | {"run": "another"})

    repository.update_config("pets", update)
    (finding,) = verify(repository).findings
    assert finding.reason == "its summary of version 2 differs from the manifest: run"


def test_a_configuration_that_cannot_be_read_does_not_hide_the_other_models(repository: Repository) -> None:
    path = repository.path / CONFIG
    path.write_text(path.read_text() + "nonsense {")
    (repository.path / "cars" / "1" / "model.onnx").write_bytes(b"x")
    assert findings(repository) == [("cars/1/model.onnx", "changed"), (CONFIG, "unreadable")]


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, "\xff"])
def test_a_manifest_that_is_no_manifest_is_a_changed_file(content: str, repository: Repository) -> None:
    (repository.path / "pets" / "1" / "manifest.json").write_bytes(content.encode("latin-1"))
    assert ("pets/1/manifest.json", "changed") in findings(repository)


def test_a_version_from_before_its_manifest_was_hashed_is_verified_as_far_as_it_can_be(repository: Repository) -> None:
    def update(config: object) -> None:
        parameter = config.parameters["tamiz.summary.2"]
        summary = json.loads(parameter.string_value)
        parameter.string_value = json.dumps({key: value for key, value in summary.items() if "sha256" not in key})

    repository.update_config("pets", update)
    verified = verify(repository, "pets")
    assert (verified.findings, verified.unrecorded, verified.files) == ((), ("pets/2/manifest.json",), 5)


def test_a_further_file_that_the_manifest_names_is_verified_too(repository: Repository, tmp_path: Path) -> None:
    spec = make_spec(["a", "b"])
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    version = repository.publish("cars", graph, spec, manifest={"files": {"report.json": empty}})
    report = repository.path / "cars" / str(version) / "report.json"
    assert findings(repository) == [("cars/2/report.json", "missing")]
    report.write_text("")
    assert findings(repository) == []
    report.write_text("x")
    assert findings(repository) == [("cars/2/report.json", "changed")]


def test_an_unknown_model_is_an_error(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"no model 'pest' .*did you mean 'pets'\?"):
        verify(repository, "pest")
    with pytest.raises(RepositoryError, match="no model repository"):
        verify(Repository(tmp_path / "none"))


def test_the_command_names_the_files_and_fails_when_something_differs(
    repository: Repository, tamiz: Callable[..., object]
) -> None:
    done = tamiz("models", "verify", "--repository", repository.path)
    assert (done.returncode, done.stdout) == (0, "verified 2 models, 3 versions, 9 files; differences: 0\n")
    (repository.path / "pets" / "1" / "model.onnx").write_bytes(b"x")
    done = tamiz("models", "verify", "--repository", repository.path)
    assert done.returncode == 1
    assert "pets/1/model.onnx" in done.stdout
    assert done.stdout.endswith("verified 2 models, 3 versions, 9 files; differences: 1\n")
    done = tamiz("models", "verify", "pets", "--repository", repository.path, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert [finding["problem"] for finding in document["findings"]] == ["changed"]
    assert tamiz("models", "verify", "cars", "--repository", repository.path).returncode == 0


def test_a_model_whose_configuration_was_deleted_or_replaced_is_found(repository: Repository) -> None:
    (repository.path / CONFIG).unlink()
    (repository.path / "cars" / "config.pbtxt").write_text('name: "cars"')
    (repository.path / "foreign" / "1").mkdir(parents=True)
    assert findings(repository) == [("cars/config.pbtxt", "changed"), (CONFIG, "missing")]
    assert findings(repository, "pets") == [(CONFIG, "missing")]
    assert verify(repository).models == 2


NAMES = ["/etc/hostname", "/dev/zero", "../1/model.onnx", "", ".", "a\0b", "\ud800", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.timeout(60)
def test_a_manifest_that_names_files_outside_of_its_version_is_found_and_none_is_read(
    name: str, repository: Repository
) -> None:
    path = repository.path / "pets" / "2" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"files": {name: "0"}}))
    found = verify(repository).findings
    assert ("pets/2/manifest.json", "changed") in [(finding.path, finding.problem) for finding in found]
    # Each finding can be printed.
    assert all(finding.reason.encode() and finding.path.encode() for finding in found)


@pytest.mark.parametrize("name", ["model.onnx", "spec.json", "manifest.json"])
@pytest.mark.timeout(60)
def test_a_device_or_a_pipe_in_the_place_of_a_file_is_not_read(name: str, repository: Repository) -> None:
    ours = repository.path / "pets"
    for version in ("1", "2"):
        (ours / version / name).unlink()
    (ours / "1" / name).symlink_to("/dev/zero")
    os.mkfifo(ours / "2" / name)
    reasons = {finding.path: finding.reason for finding in verify(repository).findings}
    assert reasons == dict.fromkeys((f"pets/1/{name}", f"pets/2/{name}"), "it is not a regular file")


@pytest.mark.parametrize("change", ["publish", "prune", "promote"])
def test_what_others_change_while_files_are_hashed_is_no_finding(
    change: str, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "publish": lambda: repository.publish("pets", tmp_path / "graph.onnx", make_spec(["a", "b"])),
        "prune": lambda: prune(repository, "pets", 0),
        "promote": lambda: promote(repository, "pets", 2),
    }
    due = [changes[change]]

    def hash_after_a_change(path: Path) -> str:
        if path.parent.parent.name == "pets" and due:
            due.pop()()
        return sha256(path)

    monkeypatch.setattr(verification, "sha256", hash_after_a_change)
    assert findings(repository) == []
    assert due == []
    (repository.path / "pets" / "1" / "model.onnx").write_bytes(b"x")
    due.append(changes[change])
    assert findings(repository) == [("pets/1/model.onnx", "changed")]
