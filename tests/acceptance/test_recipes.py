"""Shipped recipes on real data: full training, publication, and a comparison of every served prediction."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pages import write_pages
from sklearn.linear_model import LogisticRegression
from torchvision.datasets import FashionMNIST

from tamiz import Client, Preprocessing
from tamiz.preprocessing import prepare
from tamiz_bench.benchmark import run_benchmark
from tamiz_release.run_publication import publish_run
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton
from tamiz_train.data import load_data
from tamiz_train.evaluation import Evaluation, evaluate_served
from tamiz_train.inference import evaluate, predict
from tamiz_train.recipe import load_recipe
from tamiz_train.run import Run
from tamiz_train.run_data import load_run_data
from tamiz_train.training import train
from tamiz_train.weights import load_classifier

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="session")
def data() -> Path:
    path = Path(os.environ.get("TAMIZ_DATA") or "../shared/data")
    if not path.is_dir():
        pytest.fail(f"acceptance tests need the data, and {path} does not exist: set TAMIZ_DATA to the data folder")
    return path.resolve()


@pytest.fixture
def report_line(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def report_line(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    return report_line


def publish(run: Run, repository: Path, report_line: Callable[[str], None]) -> None:
    publish_run(run, Repository(repository), on_progress=report_line)


def served_differences(url: str, run: Run, images: list[Path], report_line: Callable[[str], None]) -> int:
    expected = predict(run, images)
    with Client(url, model=run.recipe.name) as client:
        started = time.perf_counter()
        served = list(client.classify_many(images))
        seconds = time.perf_counter() - started
    differing = sum(result.label != trained.label for result, trained in zip(served, expected, strict=True))
    # A folder cannot be called "T-shirt/top".
    correct = sum(
        result.label.replace("/", "-") == image.parent.name for result, image in zip(served, images, strict=True)
    )
    report_line(
        f"{run.recipe.name}: trainer's test accuracy {run.metrics['test']['accuracy']:.4f}, "
        f"served {correct / len(images):.4f}; {differing} of {len(images)} predictions differ; "
        f"{len(images) / seconds:,.0f} images/s"
    )
    return differing


def link_idx(data: Path, name: str, root: Path) -> str:
    """Link to the files from a temporary folder, because torchvision extracts them beside the originals."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for path in (data / name / "raw").glob("*.gz"):
        (raw / path.name).symlink_to(path)
    return f"data.root={root}"


def untar(data: Path, name: str, root: Path) -> Path:
    with tarfile.open(data / f"{name}.tar") as archive:
        archive.extractall(root, filter="data")
    return root / name


def measure_by_revision(run: Run, size: int) -> dict[int, Evaluation]:
    """Evaluate a run on its test images at another size with each revision of the preprocessing.

    At size 160, revision 2 decodes a file of 400×533 pixels at half size; at 224, both revisions do the same.
    """
    measured = {}
    for revision in (1, 2):
        settings = {"revision": revision, "height": size, "width": size}
        preprocessing = run.spec.preprocessing.model_copy(update=settings)
        spec = run.spec.model_copy(update={"preprocessing": preprocessing})
        measured[revision] = evaluate(load_classifier(run), load_run_data(run).test, spec)
    return measured


def local_weights(data: Path) -> list[str]:
    """Settings that load weights from the data folder instead of downloading those of timm."""
    weights = data / "weights" / "mobilenetv2_100_imagenet.safetensors"
    return [
        "model.name=mobilenetv2_100",
        "model.pretrained=false",
        f"model.weights={weights}",
        "model.options={pad_type: same, bn_eps: 0.001}",
        "normalisation={mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
    ]


def run_recipe(name: str, options: list[str], folder: Path, report_line: Callable[[str], None]) -> Run:
    started = time.perf_counter()
    run = train(load_recipe(name, [*options, f"runs_dir={folder / 'runs'}", "tracking.uri=null"]), report_line)
    report_line(f"{name}: {(time.perf_counter() - started) / 60:.1f} minutes; validation {run.metrics['validation']}")
    report_line(f"{name}: test {run.metrics['test']}")
    return run


def assert_served_as_trained(run: Run, folder: Path, report_line: Callable[[str], None]) -> None:
    """Evaluate the test split with a real Triton, and compare each prediction with the trainer's."""
    publish(run, folder / "models", report_line)
    split = load_run_data(run).test
    measured = evaluate(load_classifier(run), split, run.spec)
    with Triton(folder / "models") as triton, Client(triton.url, model=run.recipe.name, timeout_s=60) as client:
        answered = evaluate_served(client, split, run.spec)
    differing = answered.differences(measured)
    report_line(f"{run.recipe.name}: {measured.summary}")
    report_line(f"{run.recipe.name}: {differing} of {len(split)} served predictions differ")
    assert differing == 0


def test_fashion_mnist_quickstart_reaches_the_published_accuracy_and_is_served_identically(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    root = link_idx(data, "FashionMNIST", tmp_path / "data")
    runs = [
        run_recipe("fashion_mnist_quickstart", [root, f"train.seed={seed}"], tmp_path, report_line) for seed in range(3)
    ]
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    report_line(
        f"fashion_mnist_quickstart: test accuracies {accuracies}, mean {np.mean(accuracies):.4f} (published 0.711)"
    )
    assert np.mean(accuracies) == pytest.approx(0.711, abs=0.01)

    run = runs[0]
    test = load_data(run.recipe.data, run.recipe.train.seed).test
    assert len(test) == len(FashionMNIST(tmp_path / "data", train=False)) == 10_000
    images = []
    for index, (pixels, target) in enumerate(zip(test.images, test.targets, strict=True)):
        folder = tmp_path / "png" / run.spec.labels[target].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        images.append(folder / f"{index:05}.png")
        cv2.imwrite(str(images[-1]), pixels)
    publish(run, tmp_path / "models", report_line)
    with Triton(tmp_path / "models") as triton:
        assert served_differences(triton.url, run, images, report_line) == 0


def test_mnist_lenet_reaches_the_published_accuracy(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    run = run_recipe("mnist_lenet", [link_idx(data, "MNIST", tmp_path / "data")], tmp_path, report_line)
    # Published for validation.
    assert run.metrics["validation"]["accuracy"] >= 0.9864
    assert run.metrics["test"]["accuracy"] >= 0.9864
    assert_served_as_trained(run, tmp_path, report_line)


def test_fashion_mnist_reaches_a_test_accuracy_of_92_5_percent(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    run = run_recipe("fashion_mnist", [link_idx(data, "FashionMNIST", tmp_path / "data")], tmp_path, report_line)
    assert run.metrics["test"]["accuracy"] >= 0.925
    assert_served_as_trained(run, tmp_path, report_line)


def test_cifar10_trains_from_jpeg_files_with_local_weights(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    folder = untar(data, "cifar10", tmp_path)
    images = f"{{kind: folder, root: {folder}, validation_from: test, validation_fraction: 0.5, subset_size: 10000}}"
    # With the published learning rate of 1e-4, MobileNetV2 has not converged after three epochs.
    rate = ["train.optimizer.lr=0.0005", "train.schedule={name: OneCycleLR, options: {max_lr: 0.0005}}"]
    options = [f"data={images}", *local_weights(data), *rate, "train.batch_size=32", "train.label_smoothing=0.1"]
    run = run_recipe("cifar10", options, tmp_path, report_line)
    assert (run.recipe.preprocessing.height, run.recipe.train.epochs) == (160, 3)
    images = run.metrics["images"]
    assert (images["train"], images["validation"] + images["test"]) == (10_000, 10_000)
    assert run.metrics["test"]["accuracy"] >= 0.85
    assert_served_as_trained(run, tmp_path, report_line)


def test_mobilevit_trains_from_scratch_and_is_served(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    folder = untar(data, "cifar10", tmp_path)
    few = tmp_path / "few"
    for split, count in (("train", 32), ("test", 20)):
        for label in (folder / split).iterdir():
            (few / split / label.name).mkdir(parents=True)
            for path in sorted(label.iterdir())[:count]:
                (few / split / label.name / path.name).symlink_to(path)
    images = f"{{kind: folder, root: {few}, validation_from: test, validation_fraction: 0.5}}"
    options = [f"data={images}", "model.pretrained=false", "train.epochs=1", "train.batch_size=32"]
    run = run_recipe("cifar10", options, tmp_path, report_line)
    assert run.recipe.model.name == "mobilevit_s"
    assert_served_as_trained(run, tmp_path, report_line)


def test_documents_are_classified_better_than_by_a_linear_model(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    write_pages(tmp_path / "pages", 1600)
    options = [
        f"data.root={tmp_path / 'pages'}",
        *local_weights(data),
        "train.epochs=3",
        "train.optimizer.lr=0.001",
        "train.schedule={name: OneCycleLR, options: {max_lr: 0.001}}",
        "train.precision=bf16-mixed",
        "tracking.tensorboard=false",
        "tracking.log_model=false",
    ]
    run = run_recipe("documents", options, tmp_path, report_line)
    images = load_run_data(run)
    grey = Preprocessing(height=32, width=32, colour="L", interpolation="area")
    pixels = {
        split.name: np.stack([prepare(path, grey).ravel() / 255 for path in split.images]) for split in images.splits
    }
    linear = LogisticRegression(C=0.1, max_iter=3000).fit(pixels["train"], images.train.targets)
    accuracy = linear.score(pixels["test"], images.test.targets)
    report_line(f"documents: a linear model of 32x32 grey pixels has a test accuracy of {accuracy:.4f}")
    assert accuracy < 0.70
    assert run.metrics["test"]["accuracy"] >= 0.95
    assert_served_as_trained(run, tmp_path, report_line)


def test_voc2007_trains_a_multilabel_model_from_a_manifest(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    folder = untar(data, "coco128", tmp_path)
    options = [
        f"data={{kind: csv, root: {folder}, validation_from: train, test_fraction: 0.2}}",
        *local_weights(data),
        "train.phases=[{epochs: 6, lr: 0.003, trainable: head}, {epochs: 3, lr: 0.0003, trainable: 2}]",
        "thresholds=tuned",
    ]
    run = run_recipe("voc2007", options, tmp_path, report_line)
    assert run.spec.task == "multilabel"
    # Random predictions have a mean average precision equal to the labels' frequency, about 0.04.
    assert run.metrics["validation"]["map"] > 0.1
    assert_served_as_trained(run, tmp_path, report_line)


def test_clothing_trains_in_half_an_hour_and_is_served_near_the_limit(
    data: Path, report_line: Callable[[str], None], tmp_path: Path
) -> None:
    untar(data, "clothing", tmp_path)
    weights = data / "weights" / "mobilenetv2_100_imagenet.safetensors"
    options = [f"data.root={tmp_path / 'clothing'}", f"model.weights={weights}"]
    started = time.perf_counter()
    run = train(load_recipe("clothing", [*options, f"runs_dir={tmp_path / 'runs'}", "tracking.uri=null"]), report_line)
    minutes = (time.perf_counter() - started) / 60
    report_line(f"clothing: {minutes:.1f} minutes")
    assert run.metrics["test"]["accuracy"] >= 0.92
    assert minutes < 30

    by_revision = measure_by_revision(run, 160)
    accuracies = {revision: measured.metrics["accuracy"] for revision, measured in by_revision.items()}
    first, second = (measured.probabilities.argmax(1) for measured in by_revision.values())
    report_line(
        f"clothing at 160x160 by revision of the preprocessing: {accuracies}; {(first != second).sum()} labels differ"
    )
    assert accuracies[2] > accuracies[1] - 0.01

    images = sorted((tmp_path / "clothing" / "test").rglob("*.jpg"))
    publish(run, tmp_path / "models", report_line)
    with Triton(tmp_path / "models") as triton, Client(triton.url, model="clothing", timeout_s=60) as client:
        assert served_differences(triton.url, run, images, report_line) == 0
        graph = tmp_path / "models" / "clothing" / "1" / "model.onnx"
        report = run_benchmark(client, graph, images, on_progress=report_line)
    report_line(f"clothing: served ÷ limit = {report.served_to_limit:.3f}")
    assert report.served_to_limit >= 0.85
