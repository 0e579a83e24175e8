"""Training in several processes, which `torchrun` starts and gloo connects."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz_train.run import Run
from tamiz_train.training import train

pytestmark = pytest.mark.integration


def torchrun(
    arguments: list[str], cwd: Path, program: tuple[str, ...] = ("-m", "tamiz")
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, *program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )


def test_two_processes_reach_the_accuracy_of_one(
    digits: Path, tiny_recipe: Callable[..., object], tmp_path: Path
) -> None:
    options = ["train.epochs=3", "data.validation_fraction=0.1", "augmentation=none"]
    alone = train(tiny_recipe(*options, f"runs_dir={tmp_path / 'alone'}"))
    sets = [*options, f"data.root={digits}", "tracking.uri=null", "runs_dir=runs"]
    done = torchrun(["train", "digits", "--json", *(part for item in sets for part in ("--set", item))], tmp_path)
    assert done.returncode == 0, done.stderr
    # Only the first process reports progress, writes and evaluates.
    assert done.stdout.count("epoch 3/3") == 1
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    run = Run.find(folder)
    assert json.loads(done.stdout.splitlines()[-1])["test"] == run.metrics["test"]
    for mine, others in zip(run.metrics["epochs"], alone.metrics["epochs"], strict=True):
        # The batches are the same, except for an image that is repeated to make the shards equal.
        assert mine["train_loss"] == pytest.approx(others["train_loss"], rel=0.15)
    assert run.metrics["test"]["accuracy"] == pytest.approx(alone.metrics["test"]["accuracy"], abs=0.04)
    # Lightning's metric over all processes counts each validation image once.
    best = run.metrics["epochs"][run.metrics["best_epoch"] - 1]
    assert best["validation_accuracy"] == pytest.approx(run.metrics["validation"]["accuracy"], abs=1e-6)


def test_a_batch_size_that_the_processes_cannot_divide_ends_all_of_them(digits: Path, tmp_path: Path) -> None:
    sets = [f"data.root={digits}", "tracking.uri=null", "train.batch_size=63"]
    done = torchrun(["train", "digits", *(part for item in sets for part in ("--set", item))], tmp_path)
    assert done.returncode != 0
    assert "train.batch_size: a batch of 63 images cannot be divided among 2 processes" in done.stderr


DIVERGING_SECOND_PROCESS = """
import os
from tamiz.cli import main
from tamiz_train.classifier import Classifier

forward, calls = Classifier.forward, 0

def diverge(self, images):
    global calls
    calls += self.training
    return forward(self, images) * (float("nan") if calls > 6 and os.environ["RANK"] == "1" else 1)

Classifier.forward = diverge
main()
"""
"""`tamiz` with a network whose output is NaN from the seventh training step on, in the second process only."""


def test_divergence_in_one_process_ends_all_of_them_and_keeps_the_epochs_before(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(DIVERGING_SECOND_PROCESS)
    # Four steps in each epoch.
    sets = [f"data.root={digits}", "tracking.uri=null", "train.batch_size=60", "data.subset_size=240"]
    arguments = ["train", "digits", *(part for item in sets for part in ("--set", item))]
    done = torchrun(arguments, tmp_path, ("program.py",))
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    # torchrun can end a process before it has printed its error.
    assert errors, done.stderr
    for line in errors:
        assert re.search(r"diverged in .*: the training loss .* in epoch 2; epoch 1, the best, is kept; continue", line)
    unfinished = Run.find_unfinished(tmp_path / "runs" / "digits")
    assert {path.name for path in (unfinished.path / "checkpoints").iterdir()} == {"best-1.ckpt", "last.ckpt"}


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_process_that_can_read_none_of_its_images_trains_along(task: str, tmp_path: Path) -> None:
    """Without shuffling, the second of two processes has every other image."""
    random = np.random.default_rng(0)
    names = [f"{split}-{number}.png" for split, count in (("train", 16), ("validation", 4)) for number in range(count)]
    for number, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), random.integers(0, 256, (8, 8), np.uint8))
        if number % 2 == 1:
            (tmp_path / name).write_bytes(b"damaged")
    column = "label" if task == "multiclass" else "labels"
    rows = [f"{name},{'ab'[number // 2 % 2]},{name.split('-')[0]}\n" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text(f"path,{column},split\n" + "".join(rows))
    data = "data={kind: csv, root: ., on_unreadable: skip}"
    sets = [data, "tracking.uri=null", "train.batch_size=8", "train.epochs=2", "train.shuffle=false", "runs_dir=runs"]
    done = torchrun(["train", "digits", *(part for item in sets for part in ("--set", item))], tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    metrics = Run.find(folder).metrics
    assert len(metrics["epochs"]) == 2
    for epoch in metrics["epochs"]:
        assert all(isinstance(value, int | float) for value in epoch.values())
    assert len(metrics["unreadable_images"]) == 10
