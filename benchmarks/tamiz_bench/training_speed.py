"""``tamiz bench-train``: images/s of training, beside a plain PyTorch loop and the limit of the machine.

Three contenders train the same model on the same JPEG files with the same batches, precision and workers:

- ``tamiz``: the trainer, by a recipe; one whole epoch with loading and augmentation, without validation.
- ``plain``: `plain_loop`, as a tutorial writes it; one whole epoch too.
- ``limit``: the trainer's network and its settings for the CPU on one batch that is in memory, with nothing to load.

Each measurement is a process of its own, since settings of memory and threads are a process's, and they take turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tamiz.errors import TamizError

from .benchmark import describe_machine
from .report import make_folder, write_json
from .turns import print_figures, ratio, take_turns


class BenchmarkError(TamizError):
    """A contender failed."""


@dataclass(frozen=True)
class Workload:
    """What the contenders train.

    Attributes:
        images: the folder of JPEG files, ten class folders.
        model: of timm.
        size: pixels of a side of the model's input.
        batch_size: images a step.
        workers: processes that load images.
        precision: ``32-true`` or ``bf16-mixed``.
    """

    images: str
    model: str
    size: int
    batch_size: int
    workers: int
    precision: str


def bench_train(
    model: Annotated[str, typer.Option(help="A model of timm.")] = "efficientnet_b0",
    size: Annotated[int, typer.Option(min=32, help="Pixels of a side of its input.")] = 224,
    batch_size: Annotated[int, typer.Option(min=2)] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images.")] = 1,
    precision: Annotated[Literal["32-true", "bf16-mixed"], typer.Option()] = "bf16-mixed",
    images: Annotated[int, typer.Option(min=32, help="JPEG files of 400x533 in an epoch.")] = 192,
    rounds: Annotated[int, typer.Option(min=1, help="In which the contenders take turns.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("reports/training"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, last.")] = False,
) -> None:
    """Measure the speed of training against a plain PyTorch loop and a loop without data."""
    make_folder(out)
    with tempfile.TemporaryDirectory(prefix="tamiz-bench-") as folder:
        write_images(Path(folder), images)
        workload = Workload(folder, model, size, batch_size, workers, precision)
        contenders = {name: partial(_measure_in_process, name, workload) for name in MEASURES}
        speeds = take_turns(contenders, rounds, "images/s", partial(print, file=sys.stderr, flush=True))
    report = {
        "workload": asdict(workload) | {"images": images},
        "machine": describe_machine(),
        "images_per_s": speeds,
        "tamiz_to_plain": ratio(speeds["tamiz"], speeds["plain"]),
        "tamiz_to_limit": ratio(speeds["tamiz"], speeds["limit"]),
    }
    print_figures(speeds, "images/s", "plain")
    write_json(report, out)
    print(f"report: {out}/report.json")
    if as_json:
        print(json.dumps(report))


def write_images(folder: Path, count: int) -> None:
    """JPEG files of 400×533 in ten class folders: parts of the photographs that scikit-learn carries."""
    import cv2
    import numpy as np
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    photographs = load_sample_images().images
    for split, images in (("train", count), ("validation", 10), ("test", 10)):
        for index in range(images):
            photograph = photographs[index % len(photographs)]
            top, left = (
                random.integers(0, side - part) for side, part in zip(photograph.shape, (400, 533), strict=False)
            )
            path = folder / split / str(index % 10) / f"{index:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), photograph[top : top + 400, left : left + 533, ::-1])


def measure_tamiz(workload: Workload) -> float:
    """The trainer: the second of two epochs."""
    from tamiz_train.recipe import Recipe
    from tamiz_train.training import train

    size = workload.size
    recipe = Recipe.model_validate(
        {
            "name": "speed",
            "data": {"kind": "folder", "root": workload.images},
            "preprocessing": {"height": size, "width": size},
            "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
            "augmentation": [
                {"RandomResizedCrop": {"size": [size, size], "scale": [0.5, 1.0]}},
                {"HorizontalFlip": {"p": 0.5}},
            ],
            "model": {"name": workload.model},
            "train": {
                "epochs": 2,
                "batch_size": workload.batch_size,
                "optimizer": {"lr": 0.001},
                "precision": workload.precision,
                "num_workers": workload.workers,
                "device": "cpu",
            },
            "tracking": {"uri": None},
            "runs_dir": f"{workload.images}/runs",
        }
    )
    speed: float = train(recipe).metrics["epochs"][1]["images_per_s"]
    return speed


def measure_plain(workload: Workload) -> float:
    """The plain loop: the second of two epochs."""
    from .plain_loop import train

    paths = sorted(Path(workload.images, "train").rglob("*.jpg"))
    bfloat16 = workload.precision == "bf16-mixed"
    return train(paths, workload.model, workload.size, workload.batch_size, workload.workers, bfloat16)


def measure_limit(workload: Workload) -> float:
    """As many steps as an epoch has, on one batch in memory."""
    import timm
    import torch

    from tamiz_train.cpu import keep_freed_memory, keep_strided_depthwise_in_float32

    bfloat16 = workload.precision == "bf16-mixed"
    keep_freed_memory()
    network = timm.create_model(workload.model, num_classes=10).train().to(memory_format=torch.channels_last)
    if bfloat16:
        keep_strided_depthwise_in_float32(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images = torch.rand(workload.batch_size, 3, workload.size, workload.size)
    images = images.to(memory_format=torch.channels_last)
    targets = torch.randint(0, 10, (workload.batch_size,))
    steps = max(2, len(list(Path(workload.images, "train").rglob("*.jpg"))) // workload.batch_size)
    for _ in range(2):
        began = time.perf_counter()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = torch.nn.functional.cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - began
    return steps * workload.batch_size / seconds


MEASURES: dict[str, Callable[[Workload], float]] = {
    "tamiz": measure_tamiz,
    "plain": measure_plain,
    "limit": measure_limit,
}


def _measure_in_process(name: str, workload: Workload) -> float:
    command = [sys.executable, "-m", __name__, name, json.dumps(asdict(workload))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"{name} could not be measured: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(MEASURES[sys.argv[1]](Workload(**json.loads(sys.argv[2]))))
