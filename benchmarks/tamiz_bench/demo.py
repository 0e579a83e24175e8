"""``tamiz demo``: the whole chain on handwritten digits, checked at each step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tamiz import Client
from tamiz.bulk.inputs import find_images
from tamiz.errors import TamizError
from tamiz_server.control import change
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton
from tamiz_train.digits import write_digits
from tamiz_train.export import describe, export
from tamiz_train.recipe import load_recipe
from tamiz_train.training import train

from .benchmark import run_benchmark
from .report import make_folder, print_report, write_report

MODEL = "digits"


class DemoError(TamizError):
    """What is served is not what was trained."""


def demo(
    repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
) -> None:
    """Train, evaluate, export, publish, serve, classify and measure LeNet-5 on handwritten digits."""
    began = time.perf_counter()
    recipe = load_recipe(MODEL)
    _step("images: the handwritten digits of scikit-learn")
    write_digits(recipe.data.root)

    _step("train and evaluate")
    run = train(recipe, say=_say)
    trained = run.metrics["test"]["accuracy"]

    _step("export")
    exported = export(run)
    _say(str(exported.parity))

    _step("publish and promote")
    store = Repository(repository)
    version = store.publish(MODEL, exported.path, run.spec, manifest=describe(run, exported), settings=recipe.serving)
    change(store, MODEL, lambda: store.promote(MODEL, version), None)
    _say(f"{MODEL} version {version} in {repository}")

    images = find_images([recipe.data.root / "test"])
    expected = run.predict(images)
    with Triton(repository) as triton:
        _step(f"serve: Triton is ready at {triton.url}")
        with Client(triton.url, model=MODEL) as client:
            _step(f"classify {len(images)} images")
            served = list(client.classify_many(images))
            _step("measure")
            report = run_benchmark(
                client,
                repository / MODEL / str(version) / "model.onnx",
                images,
                seconds=0.5,
                rounds=3,
                in_flight=(1, 4, 8),
            )
    folder = Path("reports") / MODEL
    make_folder(folder)
    write_report(report, folder)
    print_report(report, Console(width=110))

    right = sum(prediction.label == image.parent.name for prediction, image in zip(served, images, strict=True))
    agree = sum(
        prediction.label == wanted.label and prediction.version == version
        for prediction, wanted in zip(served, expected, strict=True)
    )
    alone = report.sweep[0][1]
    _step(f"summary, after {time.perf_counter() - began:.0f} s")
    _say(f"test accuracy in the trainer  {trained:.4f}")
    _say(f"test accuracy served          {right / len(images):.4f}")
    _say(f"predictions that agree        {agree} of {len(images)}")
    _say(f"throughput                    {report.served_images_per_s:,.0f} images/s, {report.ratio:.2f} of the limit")
    _say(f"latency of one at a time      p50 {alone.p50_ms:.1f} ms, p99 {alone.p99_ms:.1f} ms")
    _say(f"served as                     {MODEL} version {version}; `tamiz serve` serves it")
    _say(f"report                        {folder}/report.png, {folder}/report.json")
    if agree != len(images):
        raise DemoError(f"{len(images) - agree} of {len(images)} served predictions differ from the trainer's")


def _step(title: str) -> None:
    print(f"== {title}", flush=True)


def _say(line: str) -> None:
    print(f"   {line}", flush=True)
