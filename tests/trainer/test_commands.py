"""The commands of the trainer, from checking the data to explaining predictions."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pytest
from conftest import Served

from tamiz_release import PublicationOptions
from tamiz_release.run_publication import publish_run
from tamiz_train.run import Run


def test_the_commands_check_data_before_training_and_report_after_it(
    digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    sets = ["--set", f"data.root={digits}", "--set", "train.epochs=1"]
    checked = tamiz("data", "check", "digits", *sets, cwd=tmp_path)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "no problems found in the data")
    assert tamiz("data", "show", "digits", *sets, cwd=tmp_path).returncode == 0
    assert cv2.imread(str(tmp_path / "samples.png")).shape[1] > 1000
    tried = tamiz("train", "digits", "--check", *sets, cwd=tmp_path)
    assert "the network can be exported" in tried.stdout
    assert "nothing was trained" in tried.stdout
    assert tried.stdout.splitlines()[-1] == "next: " + shlex.join(["tamiz", "train", "digits", *sets])
    assert not (tmp_path / "runs").exists()

    trained = tamiz("train", "digits", *sets, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert re.fullmatch(r"next: tamiz evaluate runs/digits/[-\d]+", trained.stdout.splitlines()[-1])
    done = tamiz("evaluate", "runs/digits", "--split", "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"metric .* train .* validation .* test", done.stdout)
    assert re.search(r"accuracy .*0\.\d{4}.*0\.\d{4}.*0\.\d{4}", done.stdout)
    assert "worst recognised: " in done.stdout
    run = Run.find(tmp_path / "runs" / "digits")
    for split in ("train", "validation", "test"):
        assert (run.path / "evaluation" / split / "report.html").is_file()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracked = client.get_run(run.metrics["mlflow_run_id"])
    assert tracked.data.metrics["test/accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])
    assert "test/report.html" in {entry.path for entry in client.list_artifacts(tracked.info.run_id, "test")}

    image = next((digits / "test" / "4").iterdir())
    predicted = tamiz("predict", image, "--run", "runs/digits", "--features", "out.npy", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert np.load(tmp_path / "out.npy").shape == (1, 84)
    explained = tamiz("explain", image, "--run", "runs/digits", "--json", cwd=tmp_path)
    (result,) = json.loads(explained.stdout)["results"]
    assert cv2.imread(str(tmp_path / result["overlay"])) is not None


def test_a_served_model_is_evaluated_and_its_differing_predictions_are_counted(
    run: Run, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    name = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=name)
    done = tamiz(
        "evaluate", run.path, "--model", name, "--url", served.triton.url, "--out", tmp_path, "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["images"], document["differing"]) == (360, 0)
    assert document["metrics"] == pytest.approx(run.metrics["test"], abs=1e-4)
    assert Path(document["report"]) == tmp_path / "test-served" / "report.html"


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
        (["train", "--resume", "runs/none", "--check"], 2, "leave out --check"),
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
