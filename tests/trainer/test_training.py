"""Training a recipe to a finished run, from Python and from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from tamiz import RecipeError, RunError, TrackingError
from tamiz.preprocessing import decode
from tamiz_train.data import load_data
from tamiz_train.evaluation import evaluate, load_run_data
from tamiz_train.inference import predict
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.training import train
from tamiz_train.weights import load_classifier


def test_a_run_folder_has_the_results_of_training(trained: Run) -> None:
    assert {"recipe.yaml", "model.safetensors", "spec.json", "metrics.json"} <= {
        path.name for path in trained.path.iterdir()
    }
    metrics = trained.metrics
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2]
    assert {"train_loss", "validation_loss", "validation_accuracy", "seconds"} <= set(metrics["epochs"][0])
    assert metrics["parameters"] == 61_706
    assert metrics["images"] == {"train": 1221, "validation": 216, "test": 360}
    assert trained.spec.labels == tuple("0123456789")
    assert not list(trained.path.glob("*.part"))


def test_four_epochs_reach_a_test_accuracy_of_70_percent(tiny_recipe: Callable[..., Recipe]) -> None:
    run = train(tiny_recipe("train.epochs=4"))
    assert run.metrics["test"]["accuracy"] > 0.7
    assert run.metrics["epochs"][-1]["train_loss"] < run.metrics["epochs"][0]["train_loss"] / 2


def test_the_weights_of_the_best_epoch_are_kept(tiny_recipe: Callable[..., Recipe]) -> None:
    # The learning rate grows until it destroys the weights, so the last epoch is not the best.
    options = ["train.schedule.name=ExponentialLR", "train.schedule.options={gamma: 300}", "train.epochs=3"]
    run = train(tiny_recipe(*options))
    accuracies = [epoch["validation_accuracy"] for epoch in run.metrics["epochs"]]
    best = max(accuracies)
    assert accuracies[-1] < best
    assert run.metrics["best_epoch"] == accuracies.index(best) + 1
    assert run.metrics["validation"]["accuracy"] == pytest.approx(best)


def test_the_seed_determines_the_weights(trained: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    def weights(run: Run) -> dict[str, torch.Tensor]:
        return load_file(run.path / "model.safetensors")

    same, other = weights(train(tiny_recipe())), weights(train(tiny_recipe("train.seed=1")))
    first = weights(trained)
    assert all(torch.equal(value, same[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


def test_an_unreadable_training_image_ends_the_run_or_is_left_out(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    unreadable = sorted((root / "train" / "3").iterdir())[:2]
    for path in unreadable:
        path.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"\.png: not an image.*set data.on_unreadable to skip"):
        train(tiny_recipe(f"data.root={root}"))

    lines: list[str] = []
    run = train(tiny_recipe(f"data.root={root}", "data.on_unreadable=skip"), lines.append)
    named = run.metrics["unreadable_images"]
    assert sorted(message.partition(":")[0] for message in named) == [str(path) for path in unreadable]
    assert "2 images could not be read and were left out" in lines
    assert all(f"left out: {message}" in lines for message in named)


def test_a_batch_that_a_layer_cannot_process_is_a_run_error(tiny_recipe: Callable[..., Recipe]) -> None:
    # The last batch has one image, for which batch normalisation cannot compute statistics on a map of 1×1.
    options = ["model.name=mobilenetv2_050", "preprocessing.height=8", "preprocessing.width=8"]
    with pytest.raises(RunError, match="training failed in .*Expected more than 1 value per channel"):
        train(tiny_recipe(*options, "train.batch_size=61", "data.subset_size=62", "train.epochs=1"))


def test_an_image_size_that_the_network_cannot_process_is_a_recipe_error(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="cannot process images of 28x28"):
        train(tiny_recipe("model.name=vit_tiny_patch16_224"))


def test_a_run_is_not_evaluated_on_data_with_other_labels(
    run: Run, digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    (root / "train" / "3").rename(root / "train" / "three")
    (root / "test" / "3").rename(root / "test" / "three")
    recipe = run.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(digits), str(root)))
    done = tamiz("evaluate", run.path)
    assert done.returncode == 1
    assert "now has the labels 0, 1, 2, 4" in done.stderr
    # The same without the recorded data, as in runs from before data was recorded.
    (run.path / "data.json").unlink()
    with pytest.raises(RunError, match="now has the labels 0, 1, 2, 4"):
        load_run_data(run)


def test_a_missing_device_and_a_validation_without_readable_images_are_recipe_errors(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="train: .*CUDAAccelerator"):
            train(tiny_recipe("train.device=cuda"))
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    shutil.copytree(digits / "test", root / "validation")
    for path in (root / "validation").rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(RecipeError, match="train: .*validation_accuracy"):
        train(tiny_recipe(f"data.root={root}", "data.on_unreadable=skip", "train.epochs=1"))


def test_mlflow_has_the_parameters_metrics_and_files_of_a_run(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(tiny_recipe("tracking.uri=sqlite:///mlflow.db"))
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.run_id == run.metrics["mlflow_run_id"]
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["train/batch_size"] == "64"
    assert len(client.get_metric_history(tracked.info.run_id, "validation_accuracy")) == 2
    assert tracked.data.metrics["best/test_accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])
    files = {artifact.path for artifact in client.list_artifacts(tracked.info.run_id)}
    assert files == {"recipe.yaml", "spec.json", "metrics.json", "model.safetensors"}


def test_an_unusable_tracking_store_is_a_tracking_error(tiny_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.raises(TrackingError, match=f"tracking.uri: {uri} cannot be used"):
        train(tiny_recipe(f"tracking.uri={uri}"))


def test_predictions_agree_with_the_evaluation(trained: Run) -> None:
    split = load_data(trained.recipe.data, trained.recipe.train.seed).test
    measured = evaluate(load_classifier(trained), split, trained.spec)
    predictions = predict(trained, list(split.images), top_k=2)
    assert [p.index for p in predictions] == measured.probabilities.argmax(1).tolist()
    right = sum(p.index == target for p, target in zip(predictions, split.targets, strict=True))
    assert right / len(split) == pytest.approx(measured.metrics["accuracy"])
    assert trained.metrics["test"]["accuracy"] == pytest.approx(measured.metrics["accuracy"])
    assert len(predictions[0].top) == 2


def test_paths_bytes_and_pixels_are_predicted_and_errors_keep_their_position(trained: Run, digits: Path) -> None:
    path = next((digits / "test" / "4").iterdir())
    one, two, unreadable, three = predict(trained, [path, path.read_bytes(), b"damaged", decode(path, "L")])
    assert one == two == three
    assert isinstance(unreadable, ValueError)


def test_a_damaged_unfinished_or_missing_run_is_a_run_error(run: Run, tmp_path: Path) -> None:
    assert Run.find(run.path.parent).path == run.path
    (run.path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="model.safetensors cannot be loaded"):
        load_classifier(run)
    (run.path / "metrics.json").unlink()
    with pytest.raises(RunError, match="no finished run"):
        Run.find(run.path)
    with pytest.raises(RunError, match="there is no such folder"):
        Run.find(tmp_path / "none")


def test_the_commands_train_evaluate_and_predict(
    digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    options = [f"data.root={digits}", "train.epochs=1", "train.precision=bf16-mixed", "train.num_workers=1"]
    sets = [part for option in options for part in ("--set", option)]
    done = tamiz("train", "digits", *sets, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1: train loss" in done.stdout
    assert "61,706 parameters, 61,706 trainable, 0 frozen" in done.stdout
    document = json.loads(done.stdout.splitlines()[-1])
    run = tmp_path / document["run"]
    assert (tmp_path / "mlflow.db").is_file()

    measured = json.loads(tamiz("evaluate", "runs/digits", "--json", cwd=tmp_path).stdout)
    assert (measured["split"], measured["images"]) == ("test", 360)
    assert measured["metrics"]["accuracy"] == pytest.approx(document["test"]["accuracy"])

    images = digits / "test" / "4"
    predicted = json.loads(tamiz("predict", images, "--run", run, "--json", cwd=tmp_path).stdout)
    assert predicted["images"] == len(list(images.iterdir()))
    assert list(predicted["results"][0]) == ["path", "label", "score", "version", "error"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "digit"], 2, "did you mean 'digits'"),
        (["train", "digits"], 2, "data.root: there is no folder data/digits"),
        (["train", "digits", "--set", "train.epoch=1"], 2, "unknown key train.epoch; did you mean 'epochs'?"),
        (["train", "digits", "--set", "model.name=lenet6"], 2, "no model 'lenet6'; did you mean 'lenet5'?"),
        (["train"], 2, "give either a recipe to train, or --resume RUN"),
        (["train", "--resume", "runs/none"], 1, "no run runs/none: recipe.yaml"),
        (["train", "--resume", "runs/none", "--set", "train.epochs=1"], 2, "leave out --set and --check"),
        (["train", "--check", "digits", "--set", "augmentation=standart"], 2, "there is no folder data/digits"),
        (["evaluate"], 2, "name a run, or a served model with --model"),
        (["evaluate", "--model", "none"], 1, "no run runs/none"),
        (["data", "check", "digits"], 2, "data.root: there is no folder data/digits"),
        (["data", "show", "digits"], 2, "data.root: there is no folder data/digits"),
        (["data", "chek"], 2, "No such command 'chek'"),
        (["evaluate", "runs/none"], 1, "no run runs/none"),
        (["predict", "none.png", "--run", "runs/none"], 1, "no run runs/none"),
        (["export", "runs/none"], 1, "no run runs/none"),
        (["publish", "runs/none"], 1, "no run runs/none"),
        (["publish", "none.onnx"], 2, "none.onnx: no such file"),
    ],
)
def test_invalid_input_is_one_line_and_an_exit_code(
    arguments: list[str],
    status: int,
    message: str,
    tamiz: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    done = tamiz(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
