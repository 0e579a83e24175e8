"""Several processes train as one does: `torchrun` starts them, gloo connects them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tamiz import Preprocessing
from tamiz_train.data import Split, create_loader
from tamiz_train.data.loader import Share
from tamiz_train.run import Run
from tamiz_train.training import train

SIZE = Preprocessing(height=4, width=4, colour="L")


def split(images: int) -> Split:
    return Split("test", np.zeros((images, 4, 4), np.uint8), np.zeros(images, np.int64))


def seen(images: int, batch_size: int, processes: int, training: bool) -> list[list[list[int]]]:
    """The indices of each batch of each process."""
    return [
        [
            batch.indices.tolist()
            for batch in create_loader(
                split(images),
                SIZE,
                batch_size=batch_size,
                training=training,
                shuffle=training,
                share=Share(rank, processes),
            )
        ]
        for rank in range(processes)
    ]


@pytest.mark.parametrize("images", [1, 2, 31, 32, 33, 63, 64, 65, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_sees_each_image_once_and_each_process_as_many_batches(images: int, processes: int) -> None:
    batches = seen(images, 16, processes, training=False)
    indices = sorted(index for process in batches for batch in process for index in batch)
    assert indices == list(range(images))
    assert len({len(process) for process in batches}) == 1
    assert max(len(batch) for process in batches for batch in process) <= 16


@pytest.mark.parametrize("images", [31, 32, 33, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_training_sees_each_image_once_but_for_one_repeat_a_process(images: int, processes: int) -> None:
    batches = seen(images, 16, processes, training=True)
    indices = Counter(index for process in batches for batch in process for index in batch)
    assert set(indices) == set(range(images))
    assert sum(indices.values()) - images < processes
    assert len({sum(map(len, process)) for process in batches}) == 1


def torchrun(arguments: list[str], cwd: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*command, "-m", "tamiz", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )


def test_two_processes_end_where_one_does(digits: Path, tiny_recipe: Callable[..., object], tmp_path: Path) -> None:
    options = ["train.epochs=3", "data.validation_share=0.1", "augmentation=none"]
    alone = train(tiny_recipe(*options, f"runs_dir={tmp_path / 'alone'}"))
    sets = [*options, f"data.root={digits}", "tracking.uri=null", "runs_dir=runs"]
    done = torchrun(["train", "digits", "--json", *(part for item in sets for part in ("--set", item))], tmp_path)
    assert done.returncode == 0, done.stderr
    # The first process alone tells, writes and measures.
    assert done.stdout.count("epoch 3/3") == 1
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    run = Run.find(folder)
    assert json.loads(done.stdout.splitlines()[-1])["test"] == run.metrics["test"]
    for mine, others in zip(run.metrics["epochs"], alone.metrics["epochs"], strict=True):
        # The same batches, but for one image that is given twice to make the shares even.
        assert mine["train_loss"] == pytest.approx(others["train_loss"], rel=0.15)
    assert run.metrics["test"]["accuracy"] == pytest.approx(alone.metrics["test"]["accuracy"], abs=0.04)
    # Lightning's sum over the processes is of every validation image once.
    best = run.metrics["epochs"][run.metrics["best_epoch"] - 1]
    assert best["validation_accuracy"] == pytest.approx(run.metrics["validation"]["accuracy"], abs=1e-6)


def test_a_batch_that_cannot_be_shared_is_told_and_ends_all(digits: Path, tmp_path: Path) -> None:
    sets = [f"data.root={digits}", "tracking.uri=null", "train.batch_size=63"]
    done = torchrun(["train", "digits", *(part for item in sets for part in ("--set", item))], tmp_path)
    assert done.returncode != 0
    assert "train.batch_size: 63 images a step cannot be shared by 2 processes" in done.stderr
