"""What is measured of a run and of what is served, and the reports of it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Served

from tamiz import Client, RunError, UsageError
from tamiz_train.data import Split, load_data
from tamiz_train.data.check import check_data
from tamiz_train.evaluation import Evaluation, evaluate, evaluate_served, load_run_data, predict
from tamiz_train.export import describe, export
from tamiz_train.plots import contact_sheet, plot_samples
from tamiz_train.recipe import Recipe
from tamiz_train.report import write_report
from tamiz_train.run import Run
from tamiz_train.training import train


@pytest.fixture(scope="module")
def measured(trained: Run) -> Evaluation:
    return evaluate(trained.load_model(), load_run_data(trained).test, trained.spec)


def test_the_figures_are_those_of_training(measured: Evaluation, trained: Run) -> None:
    assert measured.metrics == pytest.approx(trained.metrics["test"], abs=1e-5)
    assert sum(figures.support for figures in measured.classes) == 360
    assert measured.confusions.sum() == 360
    assert len(measured.mistakes) == 360 - np.trace(measured.confusions)


def test_mistakes_come_with_what_was_told_and_what_is_true_the_most_confident_first(measured: Evaluation) -> None:
    confidences = [mistake.confidence for mistake in measured.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    for mistake in measured.mistakes:
        path = measured.split.images[mistake.index]
        assert path.parent.name == mistake.truth != mistake.told


def test_a_large_photograph_is_prepared_as_a_client_prepares_it(trained: Run, tmp_path: Path) -> None:
    """By today's revision such a file is decoded smaller, which gives other pixels."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.jpg" for number in range(8)]
    for path in paths:
        cv2.imwrite(str(path), random.integers(0, 256, (200, 300), np.uint8))
    measured = evaluate(trained.load_model(), Split("test", paths, np.zeros(8, np.int64)), trained.spec)
    for row, prediction in zip(measured.probabilities, predict(trained, paths, top_k=10), strict=True):
        told = {scored.label: scored.score for scored in prediction.top}
        assert [told[label] for label in trained.spec.labels] == pytest.approx(row.tolist(), abs=1e-6)


def test_images_that_were_drawn_by_chance_from_others_than_trained_on_are_refused(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(digits / "train", tmp_path / "digits" / "train")).parent
    run = train(tiny_recipe(f"data.root={root}", "train.epochs=1", f"runs_dir={tmp_path / 'runs'}"))
    assert len(load_run_data(run).test) == run.metrics["images"]["test"]
    shutil.copy(next((root / "train" / "3").iterdir()), root / "train" / "3" / "new.png")
    with pytest.raises(RunError, match="drawn from them by chance, would hold images of its training"):
        load_run_data(run)
    # What the recipe names itself may change.
    shutil.copytree(digits / "test", root / "test")
    load_run_data(run, ["test"])


def test_figures_are_not_lost_with_the_tracking_store(
    digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    sets = ["--set", f"data.root={digits}", "--set", "train.epochs=1"]
    assert tamiz("train", "digits", *sets, cwd=tmp_path).returncode == 0
    (tmp_path / "mlflow.db").write_bytes(b"damaged")
    done = tamiz("evaluate", "runs/digits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not logged: tracking.uri: " in done.stderr
    assert "accuracy" in done.stdout


def test_best_and_worst_are_told_in_words(measured: Evaluation) -> None:
    by_f1 = sorted(measured.classes, key=lambda figures: figures.f1)
    assert f"told best: {by_f1[-1].label} (F1 {by_f1[-1].f1:.3f})" in measured.in_words()
    assert re.search(rf"told worst: {by_f1[0].label} .*most often taken for \d: \d+ of \d+", measured.in_words())


def test_the_report_is_one_page_that_holds_its_pictures(measured: Evaluation, tmp_path: Path) -> None:
    page = write_report(measured, tmp_path / "report", "<b>digits</b> & more")
    text = page.read_text()
    assert "&lt;b&gt;digits&lt;/b&gt; &amp; more" in text
    assert "http" not in text
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(pictures) == 3
    for picture in pictures:
        assert cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR).shape[0] > 100
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["metrics"] == measured.metrics
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.html",
        "metrics.json",
        "confusions.png",
        "reliability.png",
        "mistakes.png",
    }


def test_a_report_of_nothing_or_to_nowhere_is_told(measured: Evaluation, trained: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    split = Split("test", [tmp_path / "broken.png"], np.zeros(1, np.int64))
    nothing = evaluate(trained.load_model(), split, trained.spec)
    assert (nothing.images, nothing.metrics, len(nothing.broken)) == (0, {}, 1)
    with pytest.raises(RunError, match="no image of the split test could be read"):
        write_report(nothing, tmp_path / "report", "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/report: cannot be written: Not a directory"):
        write_report(measured, tmp_path / "file" / "report", "x")


def test_a_served_model_is_measured_by_the_same_code(
    run: Run, trained: Run, measured: Evaluation, served: Served
) -> None:
    name = served.new_name()
    exported = export(run)
    served.repository.publish(name, exported.path, run.spec, manifest=describe(run, exported))
    served.control.load(name)
    with Client(served.triton.url, model=name) as client:
        answered = evaluate_served(client, measured.split, trained.spec)
    assert answered.differences(measured) == 0
    assert answered.metrics == pytest.approx(measured.metrics, abs=1e-4)
    # A difference is seen.
    other = measured.probabilities.copy()
    other[3] = np.roll(other[3], 1)
    changed = Evaluation(measured.split, measured.spec, other, measured.indices, ())
    assert answered.differences(changed) == 1
    fewer = Evaluation(measured.split, measured.spec, measured.probabilities[1:], measured.indices[1:], ())
    assert answered.differences(fewer) == 1
    with Client(served.triton.url, model="grey") as client, pytest.raises(RunError, match="grey version 1 has the lab"):
        evaluate_served(client, measured.split, trained.spec)


def test_features_are_what_the_head_takes(trained: Run, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    images = [*sorted((digits / "test" / "0").iterdir())[:3], tmp_path / "broken.png"]
    features: list[np.ndarray | None] = []
    outcomes = predict(trained, images, features=features)
    assert [None if row is None else row.shape for row in features] == [(84,), (84,), (84,), None]
    head = trained.load_model().head
    logits = np.stack(features[:3]) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert [outcome.index for outcome in outcomes[:3]] == logits.argmax(1).tolist()


def test_a_contact_sheet_takes_images_of_any_size(trained: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    images = [np.zeros(shape, np.uint8) for shape in ((5, 9), (200, 30, 3), (28, 28, 1))]
    sheet = cv2.imdecode(np.frombuffer(contact_sheet(images, ["a", "b $x$", "c" * 99]), np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape[1] > 3 * 100
    data = load_run_data(trained)
    plain = plot_samples(data.train, data.labels, tiny_recipe("augmentation=none"), count=4)
    assert plain != plot_samples(data.train, data.labels, tiny_recipe(), count=4)


def test_what_is_wrong_with_data_is_found(digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    shutil.copytree(digits / "test", root / "validation")
    first = sorted((root / "train" / "0").iterdir())
    first[0].write_bytes(b"broken")
    shutil.copy(first[1], root / "train" / "1" / "again.png")
    for path in (root / "test" / "7").iterdir():
        path.unlink()
    found = {finding.what: finding for finding in check_data(load_data(tiny_recipe(f"data.root={root}").data, 0), "L")}
    assert set(found) == {
        "images that cannot be read",
        "images that are in more than one split",
        "images that have two different labels",
        "labels without an image in test",
    }
    assert found["images that cannot be read"].names[0].startswith(str(first[0]))
    assert len(found["images that are in more than one split"].names) == 324
    assert " = " in str(found["images that are in more than one split"])
    assert str(found["images that are in more than one split"]).endswith("and 319 more")
    assert found["labels without an image in test"].names == ("7",)
    assert list(check_data(load_data(tiny_recipe().data, 0), "L")) == []


def test_the_commands_look_at_data_before_training_and_report_after_it(
    digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    sets = ["--set", f"data.root={digits}", "--set", "train.epochs=1"]
    checked = tamiz("data", "check", "digits", *sets, cwd=tmp_path)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "nothing is wrong with the data")
    assert tamiz("data", "show", "digits", *sets, cwd=tmp_path).returncode == 0
    assert cv2.imread(str(tmp_path / "samples.png")).shape[1] > 1000
    tried = tamiz("train", "digits", "--check", *sets, cwd=tmp_path)
    assert "nothing was trained" in tried.stdout
    assert not (tmp_path / "runs").exists()

    assert tamiz("train", "digits", *sets, cwd=tmp_path).returncode == 0
    done = tamiz("evaluate", "runs/digits", "--split", "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"figure .* train .* validation .* test", done.stdout)
    assert re.search(r"accuracy .*0\.\d{4}.*0\.\d{4}.*0\.\d{4}", done.stdout)
    assert "told worst: " in done.stdout
    run = Run.find(tmp_path / "runs" / "digits")
    for split in ("train", "validation", "test"):
        assert (run.path / "evaluation" / split / "report.html").is_file()
    import mlflow

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


def test_the_command_evaluates_what_is_served_and_counts_the_differences(
    run: Run, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    name = served.new_name()
    exported = export(run)
    served.repository.publish(name, exported.path, run.spec)
    served.control.load(name)
    done = tamiz(
        "evaluate", run.path, "--model", name, "--url", served.triton.url, "--out", tmp_path, "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["images"], document["differing"]) == (360, 0)
    assert document["metrics"] == pytest.approx(run.metrics["test"], abs=1e-4)
    assert Path(document["report"]) == tmp_path / "test-served" / "report.html"


def test_a_tracked_run_has_its_model_in_mlflow_and_its_curves_in_tensorboard(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # MLflow keeps what it opened by a relative name, whatever folder that was in.
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = [f"tracking.uri={uri}", "tracking.log_model=true", "tracking.tensorboard=true"]
    run = train(tiny_recipe("train.epochs=1", "data.subset_size=300", *options))
    assert list((run.path / "tensorboard").glob("events.out.tfevents.*"))
    import mlflow.onnx

    mlflow.set_tracking_uri(uri)
    logged = mlflow.onnx.load_model(f"runs:/{run.metrics['mlflow_run_id']}/model")
    assert [node.name for node in logged.graph.output] == ["probabilities"]
