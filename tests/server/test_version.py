from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from graphs import make_spec

from tamiz import ModelSpec, RepositoryError
from tamiz_server.states import State
from tamiz_server.version import read_accelerators, read_version, summarize, version_numbers, write_version

SPEC = make_spec(["a", "b"])


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """The folder of the model ``pets``, with version 7."""
    (tmp_path / "graph.onnx").write_bytes(b"a graph")
    folder = tmp_path / "pets"
    folder.mkdir()
    write_version(
        folder / "7", model="pets", version=7, graph=tmp_path / "graph.onnx", spec=SPEC, manifest={"run": "r1"}
    )
    return folder


def test_a_version_holds_the_graph_the_spec_and_the_manifest(model_folder: Path) -> None:
    folder = model_folder / "7"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx", "spec.json"]
    assert (folder / "model.onnx").read_bytes() == b"a graph"
    assert ModelSpec.from_json((folder / "spec.json").read_text()) == SPEC
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["onnx_sha256"] == hashlib.sha256(b"a graph").hexdigest()
    assert manifest["spec_sha256"] == hashlib.sha256((folder / "spec.json").read_bytes()).hexdigest()
    assert (manifest["run"], manifest["model"], manifest["version"]) == ("r1", "pets", 7)


def test_a_version_that_was_written_reads_back(model_folder: Path) -> None:
    version = read_version(model_folder, 7, State.LIVE)
    assert (version.model, version.version, version.live, version.spec) == ("pets", 7, True, SPEC)
    assert version.manifest["run"] == "r1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spec.json", "{", "spec.json"),
        ("spec.json", None, "spec.json: No such file or directory"),
        ("manifest.json", "{", "manifest.json: Expecting property name"),
        ("manifest.json", "[]", "manifest.json: expected a JSON object"),
        ("manifest.json", "[" * 100_000, "manifest.json: the JSON document is nested too deeply"),
        ("manifest.json", None, "manifest.json: No such file or directory"),
    ],
)
def test_a_damaged_version_is_an_error_with_the_damaged_file(
    name: str, content: str | None, message: str, model_folder: Path
) -> None:
    path = model_folder / "7" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(RepositoryError, match=f"model pets version 7 is damaged: .*{message}"):
        read_version(model_folder, 7, State.ARCHIVED)


def test_only_folders_with_a_number_are_versions(model_folder: Path) -> None:
    (model_folder / "10").mkdir()
    (model_folder / "notes").mkdir()
    (model_folder / "9").write_text("a file")
    assert version_numbers(model_folder) == [7, 10]
    assert version_numbers(model_folder / "missing") == []


def test_the_summary_of_a_version_has_the_hashes_of_all_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"a graph")
    summary = write_version(
        tmp_path / "1", model="pets", version=1, graph=tmp_path / "graph.onnx", spec=SPEC, manifest={"run": "r1"}
    )
    for key, name in (
        ("onnx_sha256", "model.onnx"),
        ("spec_sha256", "spec.json"),
        ("manifest_sha256", "manifest.json"),
    ):
        assert summary[key] == hashlib.sha256((tmp_path / "1" / name).read_bytes()).hexdigest()
    assert summary["run"] == "r1"


def test_a_graph_that_changed_since_it_was_checked_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"another graph")
    checked = hashlib.sha256(b"a graph").hexdigest()
    arguments = {"model": "pets", "version": 1, "graph": tmp_path / "graph.onnx", "spec": SPEC}
    with pytest.raises(RepositoryError, match=f"the graph changed since it was checked: .* then it was {checked}"):
        write_version(tmp_path / "1", **arguments, manifest={"onnx_sha256": checked})
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize("value", [None, 5, "x", [1], [[]], {"test": [1]}, {"verdict": {}}])
def test_a_manifest_whose_entries_have_other_types_has_a_summary(value: object) -> None:
    manifest = dict.fromkeys(("metrics", "contents", "gate", "accelerators", "run", "published"), value)
    assert summarize(manifest).keys() == summarize({}).keys()


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"accelerators": 5}'])
def test_a_damaged_manifest_has_no_accelerators(content: str, model_folder: Path) -> None:
    (model_folder / "7" / "manifest.json").write_text(content)
    assert read_accelerators(model_folder, 7) == {}


@pytest.mark.parametrize("name", ["", ".", "../7", "a/b", "/etc/x", "a\0", "a\nb", "model.onnx", "spec.json"])
def test_a_further_file_needs_a_plain_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"a graph")
    arguments = {"model": "pets", "version": 1, "graph": tmp_path / "graph.onnx", "spec": SPEC, "manifest": {}}
    with pytest.raises(RepositoryError, match="a version cannot have a file named"):
        write_version(tmp_path / "1", **arguments, files={name: b""})
    assert not (tmp_path / "1").exists()
