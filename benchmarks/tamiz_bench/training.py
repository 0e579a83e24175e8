"""The benchmark of training: images per second.

Three contenders train the same network on the same JPEG files with the same batch size, precision and number of
worker processes, in interleaved rounds:

- ``tamiz``: the trainer with a recipe; one epoch with loading and augmentation, without validation.
- ``pytorch loop``: `tamiz_bench.contenders.pytorch_loop`; one epoch too.
- ``limit``: the trainer's network and CPU settings on one batch in memory, without loading any image.

Each measurement runs in its own process, because memory and thread settings belong to a process.
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
from typing import Any, Literal

from tamiz.arguments import check_choice, check_instance, check_progress, check_text, check_whole
from tamiz.engine.pipeline import MAX_BATCH_SIZE
from tamiz.errors import TamizError

from .arguments import MAX_SIDE, MAX_THREADS, check_rounds
from .comparison import Comparison, measure_in_rounds
from .machine import describe_machine

TAMIZ, PYTORCH_LOOP, LIMIT = "tamiz", "pytorch loop", "limit"
_HEIGHT, _WIDTH = 400, 533

MAX_WORKLOAD = 1_000_000
"""Largest number of JPEG files that are written, in a temporary folder."""


class BenchmarkError(TamizError):
    """A contender failed."""


@dataclass(frozen=True)
class Workload:
    """What the contenders train.

    Attributes:
        model: name of a timm model.
        size: height and width of the network's input in pixels.
        batch_size: number of images in each step.
        workers: number of worker processes that load images; 0 loads them in the training process.
        precision: ``32-true`` (float32) or ``bf16-mixed`` (bfloat16 autocast).
        images: number of JPEG files of 400×533 pixels in an epoch.

    Raises:
        UsageError: a value is wrong.
    """

    model: str = "efficientnet_b0"
    size: int = 224
    batch_size: int = 32
    workers: int = 1
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    images: int = 192

    def __post_init__(self) -> None:
        check_text("model", self.model, "the name of a timm model")
        check_whole("size", self.size, most=MAX_SIDE)
        check_whole("batch_size", self.batch_size, most=MAX_BATCH_SIZE)
        check_whole("workers", self.workers, least=0, most=MAX_THREADS)
        check_choice("precision", self.precision, ("32-true", "bf16-mixed"))
        check_whole("images", self.images, most=MAX_WORKLOAD)


@dataclass(frozen=True)
class TrainingReport:
    """Results of the benchmark of training.

    Attributes:
        workload: what was trained.
        machine: processor, software versions and time of the benchmark.
        comparison: images/s of each contender by round.
    """

    workload: Workload
    machine: dict[str, str]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document."""
        return {
            "workload": asdict(self.workload),
            "machine": self.machine,
            "images_per_s": self.comparison.figures,
            "tamiz_to_pytorch_loop": self.comparison.ratio(TAMIZ, PYTORCH_LOOP),
            "tamiz_to_limit": self.comparison.ratio(TAMIZ, LIMIT),
        }


def compare_training(
    workload: Workload, *, rounds: int = 3, on_progress: Callable[[str], None] = lambda line: None
) -> TrainingReport:
    """Measure the trainer, a PyTorch loop and a loop that loads no images.

    Args:
        workload: what to train.
        rounds: number of interleaved rounds.
        on_progress: called with one line of text after each measurement.

    Raises:
        UsageError: an argument is wrong.
        BenchmarkError: a contender failed.
    """
    check_instance("workload", workload, Workload)
    check_rounds(rounds)
    check_progress(on_progress)
    with tempfile.TemporaryDirectory(prefix="tamiz-bench-") as folder:
        write_photographs(Path(folder), workload.images)
        contenders = {name: partial(_measure_in_process, name, workload, folder) for name in CONTENDERS}
        comparison = measure_in_rounds(contenders, rounds, "images/s", on_progress)
    return TrainingReport(workload, describe_machine(), comparison)


def write_photographs(root: Path, count: int) -> None:
    """Write JPEG files in the folders ``train``, ``validation`` and ``test``, each with ten class folders.

    They are random crops of the sample photographs of scikit-learn.

    Args:
        root: folder that receives the three folders.
        count: number of training images; validation and test have ten each.
    """
    import cv2
    import numpy as np
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photographs = load_sample_images().images
    for split, images in (("train", count), ("validation", 10), ("test", 10)):
        for index in range(images):
            photograph = photographs[index % len(photographs)]
            height, width, _ = photograph.shape
            top, left = generator.integers(0, height - _HEIGHT), generator.integers(0, width - _WIDTH)
            path = root / split / str(index % 10) / f"{index:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            # OpenCV writes BGR, and the photographs are RGB.
            cv2.imwrite(str(path), photograph[top : top + _HEIGHT, left : left + _WIDTH, ::-1])


def _measure_in_process(name: str, workload: Workload, images: str) -> float:
    command = [sys.executable, "-P", "-m", __name__, name, json.dumps(asdict(workload)), images]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"{name} could not be measured: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return float(done.stdout.splitlines()[-1])


def measure_tamiz(workload: Workload, images: Path) -> float:
    """Images per second of the trainer: the second of two epochs."""
    from tamiz_train.recipe import Recipe
    from tamiz_train.training import train

    size = workload.size
    recipe = Recipe.model_validate(
        {
            "name": "speed",
            "data": {"kind": "folder", "root": images},
            "preprocessing": {"height": size, "width": size},
            "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
            "augmentation": [
                {"RandomResizedCrop": {"scale": [0.5, 1.0]}},
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
            "runs_dir": images / "runs",
        }
    )
    speed: float = train(recipe).metrics["epochs"][1]["images_per_s"]
    return speed


def measure_pytorch_loop(workload: Workload, images: Path) -> float:
    """Images per second of the PyTorch loop: the second of two epochs."""
    from .contenders.pytorch_loop import train

    paths = sorted((images / "train").rglob("*.jpg"))
    bfloat16 = workload.precision == "bf16-mixed"
    return train(paths, workload.model, workload.size, workload.batch_size, workload.workers, bfloat16)


def measure_limit(workload: Workload, images: Path) -> float:
    """Images per second of as many steps as an epoch has, on one batch in memory; the second of two passes."""
    import timm
    import torch

    from tamiz_train.cpu import keep_freed_memory, keep_strided_depthwise_in_float32

    bfloat16 = workload.precision == "bf16-mixed"
    keep_freed_memory()
    network = timm.create_model(workload.model, num_classes=10).train().to(memory_format=torch.channels_last)
    if bfloat16:
        keep_strided_depthwise_in_float32(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    batch = torch.rand(workload.batch_size, 3, workload.size, workload.size).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 10, (workload.batch_size,))
    steps = max(2, workload.images // workload.batch_size)
    for _ in range(2):
        started = time.perf_counter()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = torch.nn.functional.cross_entropy(network(batch), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        duration_s = time.perf_counter() - started
    return steps * workload.batch_size / duration_s


CONTENDERS: dict[str, Callable[[Workload, Path], float]] = {
    TAMIZ: measure_tamiz,
    PYTORCH_LOOP: measure_pytorch_loop,
    LIMIT: measure_limit,
}


if __name__ == "__main__":
    name, workload, images = sys.argv[1:]
    print(CONTENDERS[name](Workload(**json.loads(workload)), Path(images)))
