"""Tracking in MLflow and TensorBoard."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import mlflow
import mlflow.onnx
import pytest

from tamiz import TrackingError
from tamiz_train.distributed import Processes
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.tracking import Tracker, log_evaluation
from tamiz_train.training import train


def tracked(run: Run, uri: str) -> Run:
    """The same run, with a recipe that names a tracking store."""
    recipe = run.recipe.model_copy(update={"tracking": run.recipe.tracking.model_copy(update={"uri": uri})})
    (run.path / "recipe.yaml").write_text(recipe.to_yaml())
    return Run(run.path)


def test_a_tracked_run_has_its_model_in_mlflow_and_its_metrics_in_tensorboard(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # MLflow keeps stores that it opened by a relative path, whatever the working directory is later.
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = [f"tracking.uri={uri}", "tracking.log_model=true", "tracking.tensorboard=true"]
    run = train(tiny_recipe("train.epochs=1", "data.subset_size=300", *options))
    assert list((run.path / "tensorboard").glob("events.out.tfevents.*"))
    mlflow.set_tracking_uri(uri)
    logged = mlflow.onnx.load_model(f"runs:/{run.metrics['mlflow_run_id']}/model")
    assert [node.name for node in logged.graph.output] == ["probabilities"]


def test_a_run_that_fails_has_the_status_failed_and_is_continued_when_it_is_resumed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = tracked(run, uri)
    client = mlflow.MlflowClient(uri)

    def fail_after_start() -> None:
        with Tracker.start(run):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_start()
    first = (run.path / "mlflow_run_id").read_text()
    assert client.get_run(first).info.status == "FAILED"
    with Tracker.start(run) as tracker:
        assert tracker.run_id == first
        assert len(tracker.loggers) == 1
        tracker.finish(run, {"test": {"accuracy": 0.5}})
    finished = client.get_run(first)
    assert (finished.info.status, finished.data.metrics["best/test_accuracy"]) == ("FINISHED", 0.5)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("report")
    log_evaluation(run, {"report/f1": 0.25}, tmp_path / "report")
    assert client.get_run(first).data.metrics["report/f1"] == 0.25
    assert [file.path for file in client.list_artifacts(first, "report")] == ["report/report.html"]


def test_only_the_first_of_several_processes_tracks_the_run(run: Run, tmp_path: Path) -> None:
    with Tracker.start(tracked(run, f"sqlite:///{tmp_path / 'mlflow.db'}"), Processes(1, 2, 2)) as tracker:
        assert (tracker.loggers, tracker.run_id) == ([], None)
        tracker.finish(run, {})
        tracker.log_model(run.path / "model.onnx")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_used_is_a_tracking_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    run = tracked(run, uri)
    with pytest.raises(TrackingError, match=f"tracking.uri: {uri} cannot be used: "), Tracker.start(run):
        pass
    # A run that was never tracked has nothing to add an evaluation to.
    log_evaluation(run, {"f1": 1.0}, tmp_path)
    (run.path / "mlflow_run_id").write_text("0" * 32)
    with pytest.raises(TrackingError, match=f"tracking.uri: {uri} cannot be used: "):
        log_evaluation(run, {"f1": 1.0}, tmp_path)


def test_an_evaluation_is_printed_even_when_it_cannot_be_logged(
    digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    sets = ["--set", f"data.root={digits}", "--set", "train.epochs=1"]
    assert tamiz("train", "digits", *sets, cwd=tmp_path).returncode == 0
    (tmp_path / "mlflow.db").write_bytes(b"damaged")
    done = tamiz("evaluate", "runs/digits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not logged: tracking.uri: " in done.stderr
    assert "accuracy" in done.stdout


def test_mlflow_has_the_parameters_metrics_and_files_of_a_run(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(tiny_recipe("tracking.uri=sqlite:///mlflow.db"))
    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.run_id == run.metrics["mlflow_run_id"]
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["train/batch_size"] == "64"
    assert len(client.get_metric_history(tracked.info.run_id, "validation_accuracy")) == 2
    assert tracked.data.metrics["best/test_accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])
    files = {artifact.path for artifact in client.list_artifacts(tracked.info.run_id)}
    assert files == {"recipe.yaml", "spec.json", "metrics.json", "model.safetensors"}


def test_training_with_an_unusable_store_is_a_tracking_error(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.raises(TrackingError, match=f"tracking.uri: {uri} cannot be used"):
        train(tiny_recipe(f"tracking.uri={uri}"))
