"""Training in several processes, which `torchrun` starts and gloo connects."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


def test_processes_train_together_when_one_of_them_can_read_no_image_of_a_batch(digits: Path, tmp_path: Path) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    images = sorted((root / "train").rglob("*.png"))
    # In the order of files, each second image is of the second process.
    for path in images[1:120:2]:
        path.write_bytes(b"damaged")
    for index, path in enumerate(sorted((root / "test").rglob("*.png"))[::90]):
        copy = root / "validation" / path.relative_to(root / "test")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"damaged" if index % 2 else path.read_bytes())
    sets = [f"data.root={root}", "tracking.uri=null", "train.batch_size=60", "train.shuffle=false", "train.epochs=1"]
    sets += ["data.on_unreadable=skip"]
    done = torchrun(["train", "digits", "--json", *(part for item in sets for part in ("--set", item))], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["unreadable_images"]) == 62
