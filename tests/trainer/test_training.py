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
from tamiz_train.cpu import keep_strided_depthwise_in_float32
from tamiz_train.data import load_data
from tamiz_train.evaluation import evaluate, load_run_data
from tamiz_train.models import create_model
from tamiz_train.optimization import create_optimizer, create_schedule
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.settings import ModelSettings, OptimizerSettings, ScheduleSettings
from tamiz_train.training import train


def test_a_run_folder_holds_all_that_training_made(trained: Run) -> None:
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


def test_four_epochs_learn_something(tiny_recipe: Callable[..., Recipe]) -> None:
    run = train(tiny_recipe("train.epochs=4"))
    assert run.metrics["test"]["accuracy"] > 0.7
    assert run.metrics["epochs"][-1]["train_loss"] < run.metrics["epochs"][0]["train_loss"] / 2


def test_the_weights_kept_are_those_of_the_best_epoch(tiny_recipe: Callable[..., Recipe]) -> None:
    # A rate that grows until it destroys what was learnt: the last epoch is not the best.
    options = ["train.schedule.name=ExponentialLR", "train.schedule.options={gamma: 300}", "train.epochs=3"]
    run = train(tiny_recipe(*options))
    accuracies = [epoch["validation_accuracy"] for epoch in run.metrics["epochs"]]
    best = max(accuracies)
    assert accuracies[-1] < best
    assert run.metrics["best_epoch"] == accuracies.index(best) + 1
    assert run.metrics["validation"]["accuracy"] == pytest.approx(best)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    def weights(run: Run) -> dict[str, torch.Tensor]:
        return load_file(run.path / "model.safetensors")

    same, other = weights(train(tiny_recipe())), weights(train(tiny_recipe("train.seed=1")))
    first = weights(trained)
    assert all(torch.equal(value, same[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


def test_a_broken_training_image_stops_the_run_with_its_name(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    broken = sorted((root / "train" / "3").iterdir())[:2]
    for path in broken:
        path.write_bytes(b"broken")
    with pytest.raises(RunError, match=r"\.png: not an image.*data.on_broken: skip"):
        train(tiny_recipe(f"data.root={root}"))

    said: list[str] = []
    run = train(tiny_recipe(f"data.root={root}", "data.on_broken=skip"), said.append)
    named = run.metrics["broken_images"]
    assert sorted(message.partition(":")[0] for message in named) == [str(path) for path in broken]
    assert "2 images could not be read and were left out" in said
    assert all(f"left out: {message}" in said for message in named)


def test_a_batch_that_a_layer_cannot_take_is_a_failed_run(tiny_recipe: Callable[..., Recipe]) -> None:
    # The last batch is of one image, of which BatchNorm can make no statistics on a map of 1×1.
    options = ["model.name=mobilenetv2_050", "preprocessing.height=8", "preprocessing.width=8"]
    with pytest.raises(RunError, match="training failed in .*Expected more than 1 value per channel"):
        train(tiny_recipe(*options, "train.batch_size=61", "data.subset_size=62", "train.epochs=1"))


def test_an_image_size_that_a_model_cannot_take_is_told_before_training(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="cannot take images of 28x28"):
        train(tiny_recipe("model.name=vit_tiny_patch16_224"))


def test_evaluating_a_run_on_data_of_other_labels_is_refused(
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
    # A run of before runs remembered their images, too.
    (run.path / "data.json").unlink()
    with pytest.raises(RunError, match="now has the labels 0, 1, 2, 4"):
        load_run_data(run)


def test_a_device_that_is_not_there_and_a_validation_without_images_are_told(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="train: .*CUDAAccelerator"):
            train(tiny_recipe("train.device=cuda"))
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    shutil.copytree(digits / "test", root / "validation")
    for path in (root / "validation").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(RecipeError, match="train: .*validation_accuracy"):
        train(tiny_recipe(f"data.root={root}", "data.on_broken=skip", "train.epochs=1"))


def test_mlflow_keeps_parameters_metrics_by_epoch_and_files(
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
    files = {artefact.path for artefact in client.list_artifacts(tracked.info.run_id)}
    assert files == {"recipe.yaml", "spec.json", "metrics.json", "model.safetensors"}


def test_a_tracking_store_that_cannot_be_used_is_told(tiny_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.raises(TrackingError, match=f"tracking.uri: {uri} cannot be used"):
        train(tiny_recipe(f"tracking.uri={uri}"))


def test_predict_says_what_evaluation_measured(trained: Run) -> None:
    split = load_data(trained.recipe.data, trained.recipe.train.seed).test
    measured = evaluate(trained.load_model(), split, trained.spec)
    predictions = trained.predict(list(split.images), top_k=2)
    assert [p.index for p in predictions] == measured.probabilities.argmax(1).tolist()
    right = sum(p.index == target for p, target in zip(predictions, split.targets, strict=True))
    assert right / len(split) == pytest.approx(measured.metrics["accuracy"])
    assert trained.metrics["test"]["accuracy"] == pytest.approx(measured.metrics["accuracy"])
    assert len(predictions[0].top) == 2


def test_predict_takes_pixels_and_bytes_and_puts_errors_in_their_places(trained: Run, digits: Path) -> None:
    path = next((digits / "test" / "4").iterdir())
    one, two, broken, three = trained.predict([path, path.read_bytes(), b"broken", decode(path, "L")])
    assert one == two == three
    assert isinstance(broken, ValueError)


def test_an_unfinished_or_damaged_run_is_told(run: Run, tmp_path: Path) -> None:
    assert Run.find(run.path.parent).path == run.path
    (run.path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="model.safetensors cannot be loaded"):
        run.load_model()
    (run.path / "metrics.json").unlink()
    with pytest.raises(RunError, match="no finished run"):
        Run.find(run.path)
    with pytest.raises(RunError, match="there is no such folder"):
        Run.find(tmp_path / "none")


def test_an_unknown_optimizer_schedule_or_argument_is_told_before_training(
    tiny_recipe: Callable[..., Recipe],
) -> None:
    with pytest.raises(RecipeError, match="neither torch nor timm has 'AdmW'; did you mean 'AdamW'"):
        train(tiny_recipe("train.optimizer.name=AdmW"))
    network = torch.nn.Linear(2, 2)
    optimizer = create_optimizer(OptimizerSettings(name="SGD", lr=0.1), 0.1, network)
    for settings, message in (
        (ScheduleSettings(name="OneCycle"), "did you mean 'OneCycleLR'"),
        (ScheduleSettings(name="StepLR", options={"step": 1}), "takes no 'step'"),
        (ScheduleSettings(name="StepLR"), "train.schedule: StepLR: .*step_size"),
        (ScheduleSettings(name="cosin"), "did you mean 'cosine'"),
        (ScheduleSettings(name="cosine", options={"min": 1}), "train.schedule: cosine: .*min"),
    ):
        with pytest.raises(RecipeError, match=message):
            create_schedule(settings, optimizer, epochs=1, total_steps=10, monitor="validation_loss")
    with pytest.raises(RecipeError, match="takes no 'weight_decy'; did you mean 'weight_decay'"):
        create_optimizer(OptimizerSettings(name="AdamW", lr=0.1, options={"weight_decy": 0}), 0.1, network)
    with pytest.raises(RecipeError, match="train.optimizer: lamb: .*weight_decy"):
        create_optimizer(OptimizerSettings(name="lamb", lr=0.1, options={"weight_decy": 0}), 0.1, network)


def test_strided_depthwise_convolutions_stay_in_float32_under_autocast() -> None:
    from graphs import make_spec

    network = create_model(ModelSettings(name="mobilenetv2_100"), make_spec(["a", "b"], 64, 64, "RGB")).eval()
    plain, fixed = torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 8, 3, stride=2, groups=8)
    keep_strided_depthwise_in_float32(torch.nn.Sequential(plain, fixed))
    pixels = torch.rand(1, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(pixels).dtype == torch.bfloat16
        assert fixed(pixels).dtype == torch.float32
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    before = network(image)
    keep_strided_depthwise_in_float32(network)
    torch.testing.assert_close(network(image), before)


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
        (["train", "--resume", "runs/none"], 1, "no run runs/none: no recipe.yaml"),
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
def test_bad_input_is_one_line_and_an_exit_status(
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
