"""Publication of runs and graphs, with and without a running server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Served
from foreign_graphs import IMAGES, logits, softmax, write_foreign
from foreign_graphs import SPEC as FOREIGN_SPEC
from graphs import even, make_spec, write_grey_graph
from labels import HOSTILE_LABELS

from tamiz import ExportError, UsageError
from tamiz.files import sha256
from tamiz.spec import SPEC_METADATA
from tamiz_release import PublicationOptions
from tamiz_release.graph_publication import publish_graph
from tamiz_release.publication import PublishedVersion
from tamiz_release.run_publication import publish_run
from tamiz_server.repository import Repository
from tamiz_train.graph import Graph
from tamiz_train.inference import predict
from tamiz_train.onnx_export import export
from tamiz_train.run import Run

PROMOTED = PublicationOptions(promote=True)


def test_the_first_version_is_live_at_once_and_a_later_one_when_promoted(run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    lines: list[str] = []
    assert publish_run(run, repository, on_progress=lines.append) == PublishedVersion("digits", 1, 1)
    assert re.fullmatch(rf"run {run.path}, test accuracy 0\.\d{{4}}, trained 20\d\d-\d\d-\d\d \d\d:\d\d", lines[0])
    assert lines[1].startswith(f"{run.path / 'model.onnx'}: the predicted labels agree on 207 of 207 validation images")
    assert lines[-2] == f"published digits version 1 in {repository.path}"
    assert lines[-1].startswith(f"digits: version 1 is live in {repository.path}; ")
    graph = run.path / "model.onnx"
    assert publish_graph(graph, repository, "digits") == PublishedVersion("digits", 2, 1)
    assert publish_graph(graph, repository, "digits", options=PROMOTED) == PublishedVersion("digits", 3, 3)
    assert publish_graph(graph, repository, "other") == PublishedVersion("other", 1, 1)


def test_the_manifest_records_how_the_version_was_created(run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    publish_run(run, repository, model="renamed")
    manifest = repository.live_version("renamed").manifest
    assert (manifest["recipe"], manifest["run"]) == ("digits", run.path.name)
    assert manifest["weights_sha256"] == sha256(run.path / "model.safetensors")
    assert manifest["recipe_sha256"] == sha256(run.path / "recipe.yaml")
    assert manifest["metrics"] == {split: run.metrics[split] for split in ("validation", "test")}
    assert manifest["parity"] == json.loads((run.path / "parity.json").read_text())
    assert {"tamiz", "numpy", "opencv", "torch", "timm", "lightning", "onnx", "onnxruntime"} == set(
        manifest["libraries"]
    )


def test_a_doubtful_publication_is_warned_of(run: Run, tmp_path: Path) -> None:
    repository, lines = Repository(tmp_path / "repository"), []
    publish_run(run, repository)
    publish_run(run, repository, on_progress=lines.append)
    assert "warning: identical to version 1 of digits" in lines


def test_settings_that_differ_from_the_recipe_are_said_and_applied_on_demand(run: Run, tmp_path: Path) -> None:
    repository, lines = Repository(tmp_path / "repository"), []
    publish_run(run, repository)
    repository.update_config("digits", lambda config: setattr(config, "max_batch_size", 3))
    wanted = run.recipe.serving.max_batch_size
    publish_run(run, repository, on_progress=lines.append)
    differences = f"max_batch_size 3 (recipe: {wanted})"
    assert f"warning: config.pbtxt of digits keeps other serving settings than the recipe: {differences};" in lines[-2]
    assert repository.config("digits").max_batch_size == 3
    publish_run(run, repository, options=PublicationOptions(apply_serving=True), on_progress=lines.append)
    assert lines[-2] == f"applied the serving settings of the recipe: {differences}"
    assert repository.config("digits").max_batch_size == wanted


def test_settings_that_ruin_serving_are_warned_of_also_when_they_were_edited_by_hand(run: Run, tmp_path: Path) -> None:
    repository, lines = Repository(tmp_path / "repository"), []
    publish_run(run, repository, on_progress=lines.append)
    assert not [line for line in lines if "max_queue_delay_us" in line]
    repository.update_config(
        "digits", lambda config: setattr(config.dynamic_batching, "max_queue_delay_microseconds", 900)
    )
    publish_graph(run.path / "model.onnx", repository, "digits", on_progress=lines.append)
    assert lines[-1].startswith("warning: max_queue_delay_us: 900: Triton 2.51.0 may stop using instances")


def test_a_missing_graph_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.onnx: no such file"):
        publish_graph(tmp_path / "none.onnx", Repository(tmp_path / "repository"), "digits")


def test_a_graph_with_logits_gets_a_softmax(run: Run, tmp_path: Path) -> None:
    """The softmax of an exported graph, taken out as another tool might leave it out."""
    model = onnx.load(export(run).path)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]
    onnx.save(model, tmp_path / "logits.onnx")
    repository = Repository(tmp_path / "repository")
    lines: list[str] = []
    publish_graph(tmp_path / "logits.onnx", repository, "digits", on_progress=lines.append)
    assert lines[0].endswith("; softmax applied")
    graph = Graph(repository.path / "digits" / "1" / "model.onnx")
    pixels = run.parity_images[:5]
    expected = Graph(run.path / "model.onnx").probabilities(pixels)
    np.testing.assert_allclose(graph.probabilities(pixels), expected, atol=1e-5)


def test_a_classifier_of_another_tool_is_published_and_served(served: Served, tmp_path: Path) -> None:
    name = served.new_name()
    path = write_foreign(tmp_path / "foreign.onnx", shape=(1, 3, 4, 6), external=True)
    path.with_suffix(".spec.json").write_text(FOREIGN_SPEC.to_json())
    published = publish_graph(path, served.repository, name, options=PublicationOptions(control=served.control))
    assert published == PublishedVersion(name, 1, 1)
    expected = softmax(logits())
    with served.client(name) as client:
        answers = list(client.classify_many(list(IMAGES), top_k=3))
    assert [answer.label for answer in answers] == [FOREIGN_SPEC.labels[index] for index in expected.argmax(1)]
    scores = [[{each.label: each.score for each in answer.top}[label] for label in "abc"] for answer in answers]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_graph_that_is_refused_leaves_the_repository_as_it_is(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    path = write_foreign(tmp_path / "foreign.onnx", flat=(0, 36), output=("N", 3))
    path.with_suffix(".spec.json").write_text(FOREIGN_SPEC.to_json())
    with pytest.raises(ExportError, match=r"foreign.onnx: cannot be loaded: "):
        publish_graph(path, repository, "foreign")
    assert not repository.path.exists()


def test_the_served_model_predicts_what_the_run_predicts(run: Run, digits: Path, served: Served) -> None:
    name = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=name)
    images = sorted((digits / "test").rglob("*.png"))
    with served.client(name) as client:
        answers = list(client.classify_many(images, top_k=10))
    for answer, expected in zip(answers, predict(run, images, top_k=10), strict=True):
        assert answer.label == expected.label
        assert answer.version == 1
        scores = {scored.label: scored.score for scored in answer.top}
        assert scores == pytest.approx({scored.label: scored.score for scored in expected.top}, abs=1e-4)


def test_a_model_with_labels_of_every_kind_is_published_and_served(served: Served, tmp_path: Path) -> None:
    labels = list(HOSTILE_LABELS.values())
    spec = make_spec(labels)
    graph = write_grey_graph(tmp_path / "model.onnx", spec)
    model = onnx.load(graph)
    model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
    onnx.save(model, graph)
    name = served.new_name()
    publish_graph(graph, served.repository, name, options=PublicationOptions(control=served.control))
    assert served.repository.live_version(name).spec.labels == tuple(labels)
    with served.client(name) as client:
        answers = client.classify_many([even(index, len(labels)) for index in range(len(labels))])
        assert [answer.label for answer in answers] == labels


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def test_the_commands_export_and_publish_to_a_running_server(
    run: Run, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    name = served.new_name()
    exported = tamiz("export", run.path, "--json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout.splitlines()[-1])["parity"]["agreeing"] == 207

    where = ["--model", name, "--repository", served.repository.path]
    server = ["--url", served.triton.url, "--key", served.triton.key]
    rejected = tamiz("publish", run.path / "model.onnx", *where, *server[:-1], "wrong")
    assert rejected.returncode == 1
    assert rejected.stderr.count("denied access: the key is missing or wrong") == 1
    assert name not in served.repository.models(), "nothing is published when the server rejects the key"
    first = tamiz("publish", run.path / "model.onnx", *where, *server)
    assert first.returncode == 0, first.stderr
    assert last_line(first) == f"next: tamiz classify IMAGES --model {name} --url {served.triton.url}"
    with served.client(name) as client:
        client.refresh()
        assert client.live_version == 1
        second = tamiz("publish", run.path, *where, *server, "--promote", "--json")
        assert second.returncode == 0, second.stderr
        assert json.loads(second.stdout.splitlines()[-1]) == {"model": name, "version": 2, "live": 2}
        client.refresh()
        assert client.live_version == 2
    third = tamiz("publish", run.path, *where)
    assert f"{name}: version 2 is live in {served.repository.path}; whether a running server" in third.stdout
    assert last_line(third) == f"next: tamiz promote {name} 3 --repository {served.repository.path}"
    elsewhere = tamiz("publish", run.path / "model.onnx", "--model", "digits", cwd=tmp_path)
    assert last_line(elsewhere) == "next: tamiz serve"
    versions = Repository(served.repository.path).versions(name)
    assert [version.live for version in versions] == [False, True, False]
    assert versions[1].manifest["run"] == "run"


def test_a_repository_that_cannot_be_changed_is_reported_in_one_line(
    run: Run, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = tamiz("publish", run.path, "--repository", tmp_path / "file")
    assert done.returncode == 1
    assert "cannot be changed" in done.stderr
    assert done.stderr.count("\n") == 1
