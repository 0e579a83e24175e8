"""``tamiz demo``: training, publication, serving and measurement of a small model, with every result checked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tamiz import Client, Prediction
from tamiz.bulk.inputs import find_images
from tamiz.errors import TamizError
from tamiz.options import DEFAULT_REPOSITORY, RepositoryOption
from tamiz_release.releasing.plan import plan_release
from tamiz_release.releasing.release import carry_out
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton
from tamiz_train.digits import write_digits
from tamiz_train.inference import predict
from tamiz_train.recipe import load_recipe
from tamiz_train.training import train

from .benchmark import run_benchmark
from .report import Report, print_report
from .report_files import prepare_folder, write_report

MODEL = "digits"


class DemoError(TamizError):
    """Served predictions differ from the trainer's."""


def demo(repository: RepositoryOption = DEFAULT_REPOSITORY) -> None:
    """Train LeNet-5 on handwritten digits, evaluate, release, serve, classify, and measure.

    Ends with exit code 1 unless every served prediction equals the trainer's.
    """
    started = time.perf_counter()
    folder = Path("reports") / MODEL
    prepare_folder(folder)
    recipe = load_recipe(MODEL)
    _print_step("images: the handwritten digits of scikit-learn")
    write_digits(recipe.data.root)

    _print_step("train and evaluate")
    run = train(recipe, on_progress=_print_line)

    _print_step("release: export, gate and publish")
    # In FP32, because each served prediction is compared with the trainer's.
    plan = plan_release(run, Repository(repository), precision="fp32")
    released = carry_out(plan, on_progress=_print_line)
    version = released.version

    images = find_images([recipe.data.root / "test"])
    expected = predict(run, images)
    served, report = _serve_and_measure(repository, version, images)
    write_report(report, folder)
    print_report(report)

    correct = sum(_label(prediction) == image.parent.name for prediction, image in zip(served, images, strict=True))
    equal = sum(
        isinstance(prediction, Prediction)
        and prediction.label == _label(from_trainer)
        and prediction.version == version
        for prediction, from_trainer in zip(served, expected, strict=True)
    )
    _print_step(f"summary, after {time.perf_counter() - started:.0f} s")
    _print_line(f"test accuracy in the trainer  {run.metrics['test']['accuracy']:.4f}")
    _print_line(f"test accuracy served          {correct / len(images):.4f}")
    _print_line(f"equal predictions             {equal} of {len(images)}")
    _print_line(
        f"throughput                    {report.served_images_per_s:,.0f} images/s, "
        f"{report.served_to_limit:.2f} of the in-process limit"
    )
    _, single = report.sweep[0]
    _print_line(f"latency, 1 request in flight  p50 {single.p50_ms:.1f} ms, p99 {single.p99_ms:.1f} ms")
    _print_line(f"served as                     {MODEL} version {version}; start a server with `tamiz serve`")
    _print_line(f"report                        {folder}/report.png, {folder}/report.json")
    if equal != len(images):
        raise DemoError(f"{len(images) - equal} of {len(images)} served predictions differ from the trainer's")


def _serve_and_measure(
    repository: Path, version: int, images: Sequence[Path]
) -> tuple[Sequence[Prediction | Exception], Report]:
    with Triton(repository) as triton:
        _print_step(f"serve: Triton is ready at {triton.url}")
        with Client(triton.url, model=MODEL) as client:
            _print_step(f"classify {len(images)} images")
            served: Sequence[Prediction | Exception] = list(client.classify_many(images))
            _print_step("measure")
            report = run_benchmark(
                client,
                repository / MODEL / str(version) / "model.onnx",
                images,
                duration_s=0.5,
                rounds=3,
                in_flight=(1, 4, 8),
            )
    return served, report


def _label(prediction: Prediction | Exception) -> str | None:
    return prediction.label if isinstance(prediction, Prediction) else None


def _print_step(title: str) -> None:
    print(f"== {title}", flush=True)


def _print_line(line: str) -> None:
    print(f"   {line}", flush=True)
