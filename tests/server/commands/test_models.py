from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Served
from graphs import make_spec, write_grey_graph

from tamiz_server.promotion import promote
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


def test_the_models_of_a_repository_are_listed(tamiz: Tamiz, tmp_path: Path) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    for _ in range(2):
        repository.publish("pets", graph, spec, manifest={"run": "r1", "metrics": {"test": {"accuracy": 0.98765}}})
    table = tamiz("models", "--repository", repository.path).stdout
    assert "test accuracy" in table
    assert "0.9877" in table
    rows = json.loads(tamiz("models", "--repository", repository.path, "--json").stdout)
    assert [(row["model"], row["version"], row["live"], row["run"], row["test_accuracy"]) for row in rows] == [
        ("pets", 1, True, "r1", 0.98765),
        ("pets", 2, False, "r1", 0.98765),
    ]


def test_versions_are_listed_with_state_precision_size_age_and_the_difference_to_the_live_one(
    tamiz: Tamiz, tmp_path: Path
) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    measured = [("one", 0.90, "fp32"), ("one", 0.92, "fp32"), ("one", 0.915, "int8"), ("two", 0.99, "fp16")]
    for images, accuracy, precision in measured:
        manifest = {"metrics": {"test": {"accuracy": accuracy}}, "contents": {"test": images}, "precision": precision}
        repository.publish("pets", graph, spec, manifest=manifest)
    promote(repository, "pets", 2)
    start_rollout(repository, "pets", 3, canary=0.1)
    rows = json.loads(tamiz("models", "--repository", repository.path, "--json").stdout)
    assert [(row["state"], row["live"], row["precision"]) for row in rows] == [
        ("previous", False, "fp32"),
        ("live", True, "fp32"),
        ("canary", False, "int8"),
        ("archived", False, "fp16"),
    ]
    differences = [row["difference_to_live"] for row in rows]
    assert differences[:3] == pytest.approx([-0.02, 0.0, -0.005])
    assert differences[3] is None, "measured on other images"
    folder = repository.path / "pets" / "3"
    assert rows[2]["size"] == sum(path.stat().st_size for path in folder.iterdir())
    assert 0 <= rows[2]["age_s"] < 600
    table = tamiz("models", "--repository", repository.path).stdout
    canary = next(line for line in table.splitlines() if "canary" in line)
    assert "int8" in canary
    assert "-0.0050" in canary
    assert "kB" in canary


def publish_versions(repository: Repository, folder: Path, *test_images: str | None) -> None:
    spec = make_spec(["a", "b"])
    graph = write_grey_graph(folder / "graph.onnx", spec)
    for images in test_images:
        manifest = {"metrics": {"test": {"accuracy": 0.9}}, "contents": {"test": images}}
        repository.publish("pets", graph, spec, manifest=manifest)


def test_the_accelerator_of_a_version_is_listed_and_its_parameters_are_in_the_json(
    tamiz: Tamiz, tmp_path: Path
) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    accelerators = {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": {"precision_mode": "INT8"}}]}
    repository.publish("pets", graph, spec, manifest={"precision": "int8", "accelerators": accelerators})
    repository.publish("pets", graph, spec, manifest={"precision": "fp32"})
    table = tamiz("models", "--repository", repository.path).stdout
    assert "tensorrt" in next(line for line in table.splitlines() if "int8" in line)
    rows = json.loads(tamiz("models", "--repository", repository.path, "--json").stdout)
    assert [row["accelerator"] for row in rows] == ["tensorrt", None]
    assert rows[0]["config"]["optimization"]["execution_accelerators"] == accelerators
    assert [group["kind"] for group in rows[0]["config"]["instance_group"]] == ["KIND_GPU"]


def test_accuracies_on_different_test_images_are_not_listed_without_a_word(tamiz: Tamiz, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    publish_versions(repository, tmp_path, "one", "two", "one")
    done = tamiz("models", "--repository", repository.path)
    assert done.stdout.splitlines()[-1] == (
        "pets: measured on different test images: versions 1, 3 / version 2; on the same ones: "
        f"tamiz compare pets/1 pets/2 --repository {repository.path} --images FOLDER"
    )
    rows = json.loads(tamiz("models", "--repository", repository.path, "--json").stdout)
    assert [row["test_images"] for row in rows] == ["one", "two", "one"]
    publish_versions(repository, tmp_path, None)
    done = tamiz("models", "--repository", repository.path)
    assert "pets: perhaps measured on different test images: versions 1, 3 / version 2 / version 4; on" in done.stdout


def test_accuracies_on_the_same_test_images_are_listed_without_a_note(tamiz: Tamiz, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    publish_versions(repository, tmp_path, "one", "one")
    # Nothing was measured of the last version.
    repository.publish("pets", tmp_path / "graph.onnx", make_spec(["a", "b"]))
    done = tamiz("models", "--repository", repository.path)
    assert "different test images" not in done.stdout + done.stderr


def test_a_model_that_is_damaged_does_not_hide_the_others(tamiz: Tamiz, tmp_path: Path) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    for model in ("cats", "dogs"):
        repository.publish(model, graph, spec)
    (repository.path / "cats" / "1" / "spec.json").write_text("damaged")
    done = tamiz("models", "--repository", repository.path)
    assert done.returncode == 0
    assert "dogs" in done.stdout
    assert "cats" not in done.stdout
    assert "skipped: model cats version 1 is damaged" in done.stderr


def test_a_manifest_with_entries_of_other_types_does_not_hide_its_version(tamiz: Tamiz, tmp_path: Path) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    measured = {"metrics": {"test": {"accuracy": "high", "f1": [1]}}, "contents": {"test": [1]}, "gate": {"verdict": 5}}
    for manifest in (measured, {"metrics": 5, "contents": [1], "gate": "x", "published": 7, "run": {}}):
        repository.publish("pets", graph, spec, manifest=manifest)
    done = tamiz("models", "--repository", repository.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines() if "pets" in line]
    rows = json.loads(tamiz("models", "--repository", repository.path, "--json").stdout)
    assert {row[name] for row in rows for name in ("test_accuracy", "test_f1", "test_images", "gate", "run")} == {None}


def test_models_of_other_tools_are_listed_as_not_published_by_tamiz(tamiz: Tamiz, tmp_path: Path) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    repository.publish("pets", write_grey_graph(tmp_path / "graph.onnx", spec), spec)
    for name, text in (("ensemble", 'platform: "ensemble"'), ("malformed", "{")):
        (repository.path / name).mkdir()
        (repository.path / name / "config.pbtxt").write_text(text)
    (repository.path / "empty").mkdir()
    done = tamiz("models", "--repository", repository.path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    notes = {row["model"]: row["note"] for row in json.loads(done.stdout)}
    assert notes["pets"] == ""
    assert notes["ensemble"] == "not published by Tamiz"
    assert notes["empty"] == "not published by Tamiz: no config.pbtxt"
    assert notes["malformed"].startswith("not published by Tamiz: ")
    assert "not a model configuration" in notes["malformed"]
    assert "not published by Tamiz" in tamiz("models", "--repository", repository.path).stdout


def test_what_an_operator_wrote_into_a_configuration_is_in_the_json_of_disk_and_server(
    served: Served, tamiz: Tamiz
) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    path = served.repository.path / name / "config.pbtxt"
    text = re.sub(r"instance_group \{(.|\n)*?\n\}\n", "", path.read_text())
    groups = (
        'instance_group [{ count: 2 kind: KIND_CPU }, { name: "late" rate_limiter { priority: 2 } kind: KIND_CPU }]'
    )
    cache = "response_cache { enable: true }"
    parameter = 'parameters { key: "execution_mode" value { string_value: "1" } }'
    path.write_text("\n".join([text, groups, cache, parameter, "optimization { priority: PRIORITY_MAX }"]))
    served.control.load(name)
    for where in (["--repository", served.repository.path], ["--url", served.triton.url, "--key", served.triton.key]):
        rows = json.loads(tamiz("models", *where, "--json").stdout)
        config = next(row["config"] for row in rows if row["model"] == name and row["live"])
        assert config["instance_group"][0]["count"] == 2
        assert config["instance_group"][1]["rate_limiter"]["priority"] == 2
        assert config["response_cache"] == {"enable": True}
        assert config["optimization"]["priority"] == "PRIORITY_MAX"
        assert config["parameters"]["execution_mode"] == {"string_value": "1"}
        assert not [key for key in config["parameters"] if key.startswith("tamiz.")]


def test_a_repository_without_models_is_not_an_error(tamiz: Tamiz, tmp_path: Path) -> None:
    done = tamiz("models", "--repository", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"no models in {tmp_path}\n")


def test_the_models_of_a_running_server_are_listed_with_what_it_serves_and_their_metrics(
    served: Served, tamiz: Tamiz
) -> None:
    name, spec = served.new_name(), make_spec(["a", "b", "c"])
    graph = write_grey_graph(served.folder / "graph.onnx", spec)
    for f1 in (0.75, 0.5):
        measured = {"metrics": {"test": {"f1_macro": f1}}, "contents": {"test": f"images of {f1}"}}
        served.repository.publish(name, graph, spec, manifest={"run": f"run {f1}", **measured})
    served.control.load(name)
    options = ["--url", served.triton.url, "--key", served.triton.key]
    table = tamiz("models", *options).stdout
    assert "READY" in table
    assert "0.7500" in table
    rows = [row for row in json.loads(tamiz("models", *options, "--json").stdout) if row["model"] == name]
    live = next(row for row in rows if row["live"])
    assert (live["state"], live["server"]) == ("live", "READY")
    assert (live["version"], live["labels"], live["test_f1"], live["run"]) == (1, 3, 0.75, "run 0.75")
    assert live["published"].startswith("20")
    assert live["test_images"] == "images of 0.75"
