"""Shipped recipes in full on real data, from training to every served prediction."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from torchvision.datasets import FashionMNIST

from tamiz import Client
from tamiz_bench.benchmark import run_benchmark
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton
from tamiz_train.data import load_data
from tamiz_train.export import describe, export
from tamiz_train.recipe import load_recipe
from tamiz_train.run import Run
from tamiz_train.training import train

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="session")
def data() -> Path:
    path = Path(os.environ.get("TAMIZ_DATA") or "../shared/data")
    if not path.is_dir():
        pytest.fail(f"acceptance runs need the data: set TAMIZ_DATA to its folder (there is no {path})")
    return path.resolve()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    return say


def publish(run: Run, repository: Path, say: Callable[[str], None]) -> None:
    exported = export(run)
    say(str(exported.parity))
    name, settings = run.recipe.name, run.recipe.serving
    Repository(repository).publish(name, exported.path, run.spec, manifest=describe(run, exported), settings=settings)


def served_differences(url: str, run: Run, images: list[Path], say: Callable[[str], None]) -> int:
    expected = run.predict(images)
    with Client(url, model=run.recipe.name) as client:
        began = time.perf_counter()
        served = list(client.classify_many(images))
        seconds = time.perf_counter() - began
    differing = sum(got.label != wanted.label for got, wanted in zip(served, expected, strict=True))
    # A folder cannot be called "T-shirt/top".
    right = sum(got.label.replace("/", "-") == image.parent.name for got, image in zip(served, images, strict=True))
    say(
        f"{run.recipe.name}: trainer's test accuracy {run.metrics['test']['accuracy']:.4f}, "
        f"served {right / len(images):.4f}; {differing} of {len(images)} predictions differ; "
        f"{len(images) / seconds:,.0f} images/s"
    )
    return differing


def test_fashion_mnist_quickstart_reaches_the_tutorials_accuracy_and_serves_the_same(
    data: Path, say: Callable[[str], None], tmp_path: Path
) -> None:
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (data / "FashionMNIST" / "raw").glob("*.gz"):
        (raw / path.name).symlink_to(path)
    options = [f"data.root={tmp_path / 'data'}", f"runs_dir={tmp_path / 'runs'}", "tracking.uri=null"]
    run = train(load_recipe("fashion_mnist_quickstart", options), say)
    assert run.metrics["test"]["accuracy"] == pytest.approx(0.711, abs=0.01)

    test = load_data(run.recipe.data, run.recipe.train.seed).test
    assert len(test) == len(FashionMNIST(tmp_path / "data", train=False)) == 10_000
    images = []
    for index, (pixels, target) in enumerate(zip(test.images, test.targets, strict=True)):
        folder = tmp_path / "png" / run.spec.labels[target].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        images.append(folder / f"{index:05}.png")
        cv2.imwrite(str(images[-1]), pixels)
    publish(run, tmp_path / "models", say)
    with Triton(tmp_path / "models") as triton:
        assert served_differences(triton.url, run, images, say) == 0


def test_clothing_is_learnt_in_half_an_hour_and_served_near_the_limit(
    data: Path, say: Callable[[str], None], tmp_path: Path
) -> None:
    with tarfile.open(data / "clothing.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    weights = data / "weights" / "mobilenetv2_100_imagenet.safetensors"
    options = [f"data.root={tmp_path / 'clothing'}", f"model.weights={weights}"]
    began = time.perf_counter()
    run = train(load_recipe("clothing", [*options, f"runs_dir={tmp_path / 'runs'}", "tracking.uri=null"]), say)
    minutes = (time.perf_counter() - began) / 60
    say(f"clothing: {minutes:.1f} minutes")
    assert run.metrics["test"]["accuracy"] >= 0.92
    assert minutes < 30

    images = sorted((tmp_path / "clothing" / "test").rglob("*.jpg"))
    publish(run, tmp_path / "models", say)
    with Triton(tmp_path / "models") as triton, Client(triton.url, model="clothing", timeout_s=60) as client:
        assert served_differences(triton.url, run, images, say) == 0
        graph = tmp_path / "models" / "clothing" / "1" / "model.onnx"
        report = run_benchmark(client, graph, images, say=say)
    say(f"clothing: served ÷ limit = {report.ratio:.3f}")
    assert report.ratio >= 0.85
