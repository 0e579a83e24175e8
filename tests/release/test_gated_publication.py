"""Publication through the gate: what is recorded with a version, and what a failed gate leaves undone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tamiz import GateError
from tamiz.files import sha256
from tamiz_release import GateLimits, PublicationOptions, PublishedVersion, publish_graph, publish_run
from tamiz_release.candidate import Candidate
from tamiz_release.serving_plan import plan_config
from tamiz_server.config import ServingSettings, read_summary
from tamiz_server.repository import Repository
from tamiz_train.onnx_export import export
from tamiz_train.run import Run
from tamiz_train.tracking import Tracker

IMPOSSIBLE = GateLimits(growth=0.5)
"""Limits that a candidate as large as the live version does not keep."""


@pytest.fixture(scope="module")
def exported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose graph is in its folder, from where it is published without another export."""
    run = Run(Path(shutil.copytree(trained.path, tmp_path_factory.mktemp("exported") / "run")))
    export(run)
    return run


def publish(run: Run, repository: Repository, **options: Any) -> PublishedVersion:
    return publish_graph(run.path / "model.onnx", repository, "digits", **options)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_the_verdict_is_stored_with_the_version(run: Run, repository: Repository) -> None:
    lines: list[str] = []
    publish_run(run, repository, on_progress=lines.append)
    version = repository.live_version("digits")
    folder = repository.path / "digits" / "1"
    document = json.loads((folder / "gate.json").read_text())
    images = run.metrics["images"]["test"]
    assert (document["verdict"], document["images"], document["origin"]) == ("passed", images, "test images")
    assert document["onnx_sha256"] == version.manifest["onnx_sha256"]
    assert version.manifest["gate"] == document
    assert "Gate: <bdi>digits</bdi>" in (folder / "gate.html").read_text()
    assert version.manifest["files"] == {
        name: sha256(folder / name) for name in ("gate.json", "gate.html", "images.safetensors")
    }
    assert read_summary(repository.config("digits"), 1)["gate"] == "passed"
    assert f"gate: measuring on {images:,} test images" in lines
    assert [line for line in lines if line.startswith(f"gate: passed: {images:,} test images, label agreement 1.0000")]


def test_the_second_version_is_compared_with_the_live_one_on_images_that_neither_has_seen(
    exported: Run, repository: Repository
) -> None:
    publish(exported, repository)
    assert "contents" not in repository.live_version("digits").manifest, "they are known by images.safetensors alone"
    publish(exported, repository)
    gate = repository.versions("digits")[1].manifest["gate"]
    assert gate["live"]["version"] == 1
    assert gate["live"]["comparison"]["images"] == exported.metrics["images"]["test"]
    assert gate["live"]["comparison"]["right"]["only_live"] == 0
    assert not [note for note in gate["notes"] if "unknown" in note]


def test_a_failed_gate_publishes_nothing_and_leaves_its_report_with_the_run(
    exported: Run, repository: Repository
) -> None:
    publish(exported, repository)
    before = repository.path / "digits" / "config.pbtxt"
    text = before.read_text()
    with pytest.raises(GateError) as raised:
        publish(exported, repository, options=PublicationOptions(IMPOSSIBLE))
    page = exported.path / "gate" / "gate.html"
    assert str(raised.value) == (
        "digits: nothing was published: the gate failed: the file is 1.00 × as large as that of the live version; the "
        f"limit is 0.5 ×; see {page}; --force REASON publishes it anyway"
    )
    assert "Nothing was published." in page.read_text()
    assert (repository.version_numbers("digits"), before.read_text()) == ([1], text)


def test_a_forced_publication_records_its_reason_everywhere(exported: Run, repository: Repository) -> None:
    publish(exported, repository)
    lines: list[str] = []
    publish(
        exported,
        repository,
        options=PublicationOptions(IMPOSSIBLE, force="the disk is large"),
        on_progress=lines.append,
    )
    version = repository.versions("digits")[1]
    assert version.manifest["gate"]["forced"] == "the disk is large"
    assert json.loads((repository.path / "digits/2/gate.json").read_text())["forced"] == "the disk is large"
    assert "Reason: <bdi>the disk is large</bdi>" in (repository.path / "digits/2/gate.html").read_text()
    assert read_summary(repository.config("digits"), 2)["gate"] == "forced: the disk is large"
    assert repository.history("digits")[-1].why == "published despite the gate: the disk is large"
    assert [line for line in lines if line.startswith("gate: failed: the file is 1.00 ×")]


def test_a_reason_that_was_not_needed_is_not_recorded(exported: Run, repository: Repository) -> None:
    lines: list[str] = []
    publish(exported, repository, options=PublicationOptions(force="just in case"), on_progress=lines.append)
    assert repository.live_version("digits").manifest["gate"]["forced"] is None
    assert "gate: --force was not needed" in lines


def test_the_reason_of_a_publication_is_in_the_history(exported: Run, repository: Repository) -> None:
    publish(exported, repository)
    publish(exported, repository, options=PublicationOptions(promote=True, reason="more zeros"))
    assert [(entry.what, entry.after, entry.why) for entry in repository.history("digits")[1:]] == [
        ("publish", 2, "more zeros"),
        ("promote", 2, "more zeros"),
    ]


def test_a_graph_in_the_folder_of_its_run_is_compared_with_the_run(exported: Run, repository: Repository) -> None:
    publish(exported, repository)
    publish(exported, repository)
    gate = repository.versions("digits")[1].manifest["gate"]
    assert gate["reference"] == f"digits, {exported.path.name}"
    elsewhere = repository.path.with_name("model.onnx")
    elsewhere.write_bytes((exported.path / "model.onnx").read_bytes())
    publish_graph(elsewhere, repository, "digits")
    gate = repository.versions("digits")[2].manifest["gate"]
    assert (gate["reference"], gate["images"], gate["verdict"]) == (None, 0, "passed")


def test_the_planned_configuration_is_the_one_that_publication_writes(exported: Run, repository: Repository) -> None:
    settings = ServingSettings(threads=3, micro_batch_size=2)
    candidate = Candidate(exported.path / "model.onnx", exported.spec, settings=settings)
    parameters = plan_config(candidate, repository, "digits")["parameters"]
    assert parameters["intra_op_thread_count"]["string_value"] == "3"
    publish(exported, repository)
    assert "micro_batch_size" not in plan_config(candidate, repository, "digits")["parameters"]
    assert "micro_batch_size" in plan_config(candidate, repository, "digits", apply_serving=True)["parameters"]


def test_the_verdict_is_logged_to_mlflow_and_its_failure_is_a_warning(
    exported: Run, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking = exported.recipe.tracking.model_copy(update={"uri": uri})
    tracked = Run(Path(shutil.copytree(exported.path, tmp_path / "run")))
    (tracked.path / "recipe.yaml").write_text(exported.recipe.model_copy(update={"tracking": tracking}).to_yaml())
    with Tracker.start(tracked) as tracker:
        identity = tracker.run_id
    publish(tracked, repository)
    client = mlflow.MlflowClient(uri)
    metrics = client.get_run(identity).data.metrics
    assert (metrics["gate/passed"], metrics["gate/label_agreement"]) == (1, 1)
    assert {file.path for file in client.list_artifacts(identity, "gate")} == {"gate/gate.html", "gate/gate.json"}
    (tmp_path / "mlflow.db").write_bytes(b"damaged" * 1000)
    lines: list[str] = []
    publish(tracked, repository, on_progress=lines.append)
    assert [line for line in lines if line.startswith("warning: the verdict of the gate was not logged: tracking.uri")]
    assert repository.version_numbers("digits") == [1, 2]


def test_the_command_prints_the_failing_limit_in_one_line_and_forces_with_a_reason(
    exported: Run, repository: Repository, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    publish(exported, repository)
    command = ["publish", exported.path / "model.onnx", "--model", "digits", "--repository", repository.path]
    failed = tamiz(*command, "--limit", "growth=0.5")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "nothing was published: the gate failed: the file is 1.00 ×" in failed.stderr
    assert repository.version_numbers("digits") == [1]
    forced = tamiz(*command, "--limit", "growth=0.5", "--force", "known")
    assert forced.returncode == 0, forced.stderr
    assert "gate: forced: known: " in forced.stdout
    assert repository.version_numbers("digits") == [1, 2]
    for arguments, message in (
        (["--limit", "size=1"], "there is no limit 'size'"),
        (["--force", " "], "--force: say why"),
        (["--images", exported.path / "none"], "no such folder"),
    ):
        wrong = tamiz(*command, *arguments)
        assert (wrong.returncode, message in wrong.stderr) == (2, True), wrong.stderr
