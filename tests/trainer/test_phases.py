"""Training in phases, resuming after an interruption, and the settings that affect how training proceeds."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import TAMIZ
from safetensors.torch import load_file
from terminal import use_terminal

from tamiz import RecipeError, RunError
from tamiz_train.history import History
from tamiz_train.lightning_module import ClassifierModule
from tamiz_train.recipe import PhaseSettings, Recipe, load_recipe
from tamiz_train.resumption import lower_rate
from tamiz_train.run import Run
from tamiz_train.setup import check
from tamiz_train.training import resume, train

pytestmark = pytest.mark.integration

Make = Callable[..., Recipe]


class Interrupted(BaseException):
    """Ends a run in the middle of an epoch."""


def interrupt_after(epochs: int, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train, and stop in the middle of the epoch after the given number of epochs, as if the process were killed."""
    step = ClassifierModule.training_step

    def stop(self: ClassifierModule, batch: Any, index: int) -> Any:
        done = len(next(c for c in self.trainer.callbacks if isinstance(c, History)).epochs)
        if done == epochs and index == 2:
            raise Interrupted
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierModule, "training_step", stop)
        with pytest.raises(Interrupted):
            train(recipe)
    return Run.find_unfinished(recipe.runs_dir / recipe.name)


def metrics_by_epoch(run: Run) -> list[dict[str, float]]:
    return [
        {name: value for name, value in epoch.items() if name not in {"seconds", "images_per_s"}}
        for epoch in run.metrics["epochs"]
    ]


ONE_CYCLE = ["train.schedule={name: OneCycleLR, options: {max_lr: 0.006}}"]
PLATEAU = ["train.schedule={name: ReduceLROnPlateau, options: {patience: 0, factor: 0.3}}", "train.monitor=loss"]
COSINE = ["train.schedule={name: cosine}", "train.warmup_epochs=1.5", "train.optimizer.name=lamb"]
AVERAGED = ["train.ema_decay=0.9", "train.gradient_clip=0.5"]
MIXED = ["train.mixup=0.4", "train.cutmix=0.5"]
ACCUMULATED = ["train.accumulate=2"]
PHASED = [
    "train.epochs=null",
    "train.phases=[{epochs: 2, lr: 0.01, trainable: head}, {epochs: 2, lr: 0.003, trainable: 2}]",
]
STOPPING = [
    "train.epochs=null",
    "train.phases=[{epochs: 2, lr: 0.01}, {epochs: 2, lr: 0.003}]",
    "train.early_stopping_patience=1",
    "train.schedule=null",
]


@pytest.mark.parametrize(
    ("options", "after"),
    [
        pytest.param(ONE_CYCLE, 1, id="one cycle"),
        pytest.param(ONE_CYCLE, 3, id="one cycle, late"),
        pytest.param([*PLATEAU, "train.optimizer.lr=0.02"], 2, id="plateau"),
        pytest.param(COSINE, 2, id="schedule of timm, warm-up"),
        pytest.param(AVERAGED, 2, id="average of weights"),
        pytest.param(MIXED, 2, id="mixed images"),
        pytest.param(ACCUMULATED, 2, id="accumulation"),
        pytest.param([*PHASED, "train.num_workers=1"], 1, id="first phase, worker"),
        pytest.param(PHASED, 3, id="second phase"),
        pytest.param(STOPPING, 2, id="between phases"),
    ],
)
def test_a_resumed_run_has_the_same_results_as_an_uninterrupted_one(
    options: list[str], after: int, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["data.subset_size=400", "train.epochs=4", *options]
    whole = train(tiny_recipe(*common, f"runs_dir={tmp_path / 'whole'}"))
    unfinished = interrupt_after(after, tiny_recipe(*common, f"runs_dir={tmp_path / 'unfinished'}"), monkeypatch)
    assert not unfinished.finished
    resumed = resume(unfinished)
    assert resumed.path == unfinished.path
    assert metrics_by_epoch(resumed) == metrics_by_epoch(whole)
    mine, others = (load_file(run.path / "model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(mine[name], others[name]) for name in others)
    assert resumed.metrics["test"] == whole.metrics["test"]


def test_the_first_epoch_after_an_interruption_has_its_own_duration_and_its_own_bar(
    tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = interrupt_after(1, tiny_recipe("data.subset_size=400", f"runs_dir={tmp_path}"), monkeypatch)
    terminal = use_terminal(monkeypatch)
    began = time.perf_counter()
    _, resumed = resume(unfinished).metrics["epochs"]
    passed = time.perf_counter() - began
    assert 0 < resumed["seconds"] < passed
    assert resumed["images_per_s"] > 400 / passed
    assert any(re.match(r"epoch 2/2 .* 400/400 .* images/s", line) for line in terminal.lines)


def test_a_run_without_a_completed_epoch_starts_again(
    tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("data.subset_size=400", "train.epochs=1", f"runs_dir={tmp_path}")
    unfinished = interrupt_after(0, recipe, monkeypatch)
    assert resume(unfinished).finished


def test_a_finished_run_is_not_resumed_and_a_damaged_checkpoint_is_a_run_error(
    run: Run, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    before = (run.path / "metrics.json").read_bytes()
    assert resume(run, lines.append).path == run.path
    assert "is finished; there is nothing to resume" in lines[0]
    assert (run.path / "metrics.json").read_bytes() == before
    unfinished = interrupt_after(1, tiny_recipe("data.subset_size=400", f"runs_dir={tmp_path / 'runs'}"), monkeypatch)
    (unfinished.path / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    with pytest.raises(RunError, match=r"last.ckpt cannot be read"):
        resume(unfinished)


def test_a_run_is_resumed_after_it_was_moved_and_from_another_working_directory(
    digits: Path, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits").symlink_to(digits)
    common = ["data.root=data/digits", "data.subset_size=400", "train.epochs=4"]
    whole = train(tiny_recipe(*common, f"runs_dir={tmp_path / 'whole'}"))
    recipe = tiny_recipe(*common, "runs_dir=unfinished", "tracking.uri=sqlite:///mlflow.db", "train.num_workers=1")
    unfinished = interrupt_after(3, recipe, monkeypatch)
    moved = Run(Path(shutil.move(unfinished.path, tmp_path / "moved")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert metrics_by_epoch(resume(moved)) == metrics_by_epoch(whole)
    mine, others = (load_file(run / "model.safetensors") for run in (moved.path, whole.path))
    assert all(torch.equal(mine[name], others[name]) for name in others)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_is_not_resumed_with_other_images_or_labels(
    digits: Path, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(digits, tmp_path / "digits"))
    unfinished = interrupt_after(
        1, tiny_recipe(f"data.root={root}", "train.epochs=2", f"runs_dir={tmp_path / 'runs'}"), monkeypatch
    )
    one = next((root / "train" / "3").iterdir())
    shutil.copy(one, root / "train" / "3" / "new.png")
    with pytest.raises(RunError, match="the images for train have changed since the run was started"):
        resume(unfinished)
    (root / "train" / "3" / "new.png").unlink()
    for split in ("train", "test"):
        (root / split / "3").rename(root / split / "zebra")
    with pytest.raises(RunError, match="now has the labels 0, 1, 2, 4, 5, 6, 7, 8, 9, zebra"):
        resume(unfinished)
    for split in ("train", "test"):
        (root / split / "zebra").rename(root / split / "3")
    assert resume(unfinished).finished


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_of_training_is_a_run_error_of_one_line(
    workers: int, digits: Path, tiny_recipe: Make, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(digits, tmp_path / "digits"))
    for value, path in enumerate(sorted((root / "train" / "5").iterdir())):
        cv2.imwrite(str(path), np.full((4, 4), value, np.uint8))
    options = [f"data.root={root}", "augmentation=[{RandomCrop: {height: 8, width: 8}}, {Resize: {}}]"]
    with pytest.raises(
        RunError, match=r"/5/.*\.png: the augmentation fails on this image: .*[Cc]rop.*; set data"
    ) as caught:
        train(tiny_recipe(*options, f"train.num_workers={workers}", f"runs_dir={tmp_path / 'runs'}"))
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_1e_6_is_a_number_and_a_class_without_images_has_a_weight(tiny_recipe: Make, tmp_path: Path) -> None:
    schedule = "train.schedule={name: CosineAnnealingLR, options: {T_max: 10, eta_min: 1e-6}}"
    options = [schedule, "train.class_weights=balanced", "data.subset_size=12", f"runs_dir={tmp_path}"]
    assert train(tiny_recipe(*options)).finished


def diverge(recipe: Recipe) -> tuple[Run, str]:
    with pytest.raises(RunError, match="training diverged") as caught:
        train(recipe)
    assert "\n" not in str(caught.value)
    return Run.find_unfinished(recipe.runs_dir / recipe.name), str(caught.value)


DIVERGING = ["train.schedule={name: ExponentialLR, options: {gamma: 1e30}}", "data.subset_size=200", "train.epochs=3"]
"""The learning rate of the first epoch is good, and that of the second one destroys the weights."""


def test_a_diverged_run_keeps_its_good_epochs_and_continues_with_another_learning_rate(
    tiny_recipe: Make, tmp_path: Path
) -> None:
    run, message = diverge(tiny_recipe(*DIVERGING, "train.optimizer.lr=0.02", f"runs_dir={tmp_path}"))
    assert re.search(r"the training loss is (nan|inf) in epoch 2; epoch 1, the best, is kept; continue", message)
    assert message.endswith(
        f"after epoch 1 with a lower learning rate: tamiz train --resume {run.path} --set train.optimizer.lr=0.002"
    )
    kept = (run.path / "checkpoints" / "best-1.ckpt").read_bytes()
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"best-1.ckpt", "last.ckpt"}

    resumed = resume(run, overrides=["train.optimizer.lr=0.01", "train.schedule.options.gamma=0.1"])
    rates = [epoch["lr"] for epoch in resumed.metrics["epochs"]]
    # The rates of the second and the third epoch are those of a run that had the new settings from the start.
    assert rates == pytest.approx([0.02, 0.001, 0.0001])
    assert all(np.isfinite(epoch["validation_loss"]) for epoch in resumed.metrics["epochs"])
    assert resumed.recipe.train.optimizer.lr == 0.01
    if resumed.metrics["best_epoch"] == 1:
        assert (run.path / "checkpoints" / "best-1.ckpt").read_bytes() == kept


def test_an_epoch_whose_validation_loss_is_not_finite_is_never_the_best(tiny_recipe: Make, tmp_path: Path) -> None:
    # With one batch per epoch, the loss of the first epoch is computed before the weights are destroyed.
    options = ["train.optimizer={name: SGD, lr: 1e30}", "train.schedule=null", "train.batch_size=200"]
    run, message = diverge(tiny_recipe(*options, "data.subset_size=200", f"runs_dir={tmp_path}"))
    assert re.search(r"the validation loss is (nan|inf) in epoch 1; start again with a lower learning rate", message)
    assert not list((run.path / "checkpoints").glob("*"))
    assert resume(run, overrides=["train.optimizer.lr=0.01"]).metrics["best_epoch"] in {1, 2}


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        pytest.param(ONE_CYCLE, ["train.schedule.options.max_lr=0.001"], id="one cycle"),
        pytest.param([], ["train.optimizer.lr=0.001"], id="default schedule"),
        pytest.param(["train.schedule=null", "train.warmup_epochs=2"], ["train.optimizer.lr=0.001"], id="warm-up"),
        pytest.param(["train.schedule={name: cosine}"], ["train.optimizer.lr=0.001"], id="schedule of timm"),
        pytest.param(PLATEAU, ["train.optimizer.lr=0.001"], id="plateau"),
        pytest.param(PLATEAU, ["train.optimizer.lr=0.001", "train.schedule={name: cosine}"], id="another schedule"),
        pytest.param(
            ["train.epochs=null", "train.phases=[{epochs: 3, lr: 0.01}]", "train.schedule=null"],
            ["train.phases=[{epochs: 3, lr: 0.001}]"],
            id="phase",
        ),
    ],
)
def test_a_run_resumed_with_other_rates_has_those_of_a_run_that_started_with_them(
    settings: list[str], changes: list[str], tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["data.subset_size=160", "train.epochs=3", *settings]
    new = train(tiny_recipe(*common, *changes, f"runs_dir={tmp_path / 'new'}"))
    old = interrupt_after(1, tiny_recipe(*common, f"runs_dir={tmp_path / 'old'}"), monkeypatch)
    resumed = resume(old, overrides=changes)
    rates, expected = ([epoch["lr"] for epoch in run.metrics["epochs"]] for run in (resumed, new))
    assert rates[0] != expected[0]
    assert rates[1:] == pytest.approx(expected[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.seed=3", "--set train.seed: a resumed run cannot change it, only train.optimizer.lr, "),
        ("data.subset_size=5", "--set data.subset_size: a resumed run cannot change it"),
        ("train.optimizer.name=SGD", "--set train.optimizer.name: a resumed run cannot change it"),
        (
            "train.phases=[{epochs: 9, lr: 1}]",
            "change the learning rates of its phases, not their number, their epochs",
        ),
        ("train.optimizer.lr=-1", "train.optimizer.lr: Input should be greater than 0"),
    ],
)
def test_a_resumed_run_cannot_change_what_its_epochs_were_trained_with(
    change: str, message: str, tiny_recipe: Make, tmp_path: Path
) -> None:
    phases = ["train.epochs=null", "train.phases=[{epochs: 2, lr: 1}]"]
    run = Run.create(tiny_recipe(*phases, f"runs_dir={tmp_path}"))
    before = (run.path / "recipe.yaml").read_bytes()
    with pytest.raises(RecipeError, match=re.escape(message)):
        resume(run, overrides=[change])
    assert (run.path / "recipe.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (ONE_CYCLE, "train.schedule.options.max_lr=0.0006"),
        ([], "train.optimizer.lr=0.0006"),
        (["train.schedule=null", "train.optimizer.lr=0.05"], "train.optimizer.lr=0.005"),
        (
            ["train.schedule=null", "train.epochs=null", "train.phases=[{epochs: 1, lr: 1}, {epochs: 2, lr: 0.5}]"],
            "'train.phases=[{epochs: 1, lr: 1.0, trainable: all}, {epochs: 2, lr: 0.05, trainable: all}]'",
        ),
    ],
)
def test_the_command_that_lowers_the_learning_rate_names_the_key_that_sets_it(
    options: list[str], change: str, tiny_recipe: Make
) -> None:
    command = lower_rate(Path("runs/x"), tiny_recipe(*options).train, 1)
    assert command == f"tamiz train --resume runs/x --set {change}"
    assert load_recipe("digits", [*options, shlex.split(command)[-1]])


def signal_in_third_epoch(number: int, sets: list[str], cwd: Path) -> tuple[subprocess.Popen[str], str]:
    """Send a signal to `tamiz train digits` when it has reported its second epoch; returns its output after that."""
    process = subprocess.Popen(
        [TAMIZ, "train", "digits", *(part for item in sets for part in ("--set", item))],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            process.send_signal(number)
            break
    output, _ = process.communicate(timeout=60)
    return process, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_prints_how_to_resume(number: int, digits: Path, tmp_path: Path) -> None:
    process, output = signal_in_third_epoch(
        number, [f"data.root={digits}", "train.epochs=500", "tracking.uri=null"], tmp_path
    )
    assert process.returncode == 130
    unfinished = Run.find_unfinished(tmp_path / "runs" / "digits")
    assert f"type: tamiz train --resume {unfinished.path.relative_to(tmp_path)}" in output


def test_a_killed_run_is_resumed_in_the_same_run_of_mlflow(
    digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    sets = [f"data.root={digits}", "train.epochs=8", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    process, _ = signal_in_third_epoch(signal.SIGKILL, sets, tmp_path)
    assert process.returncode == -signal.SIGKILL
    unfinished = Run.find_unfinished(tmp_path / "runs" / "digits")
    assert not unfinished.finished
    done = tamiz("train", "--resume", "runs/digits", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    epochs = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("epoch ")]
    # The checkpoint is written just after the epoch is reported, so a kill in between repeats the epoch.
    assert epochs[0] in {"epoch 2/8", "epoch 3/8", "epoch 4/8"}
    assert epochs[-1] == "epoch 8/8"
    document = json.loads(done.stdout.splitlines()[-1])
    assert [epoch["epoch"] for epoch in document["epochs"]] == list(range(1, 9))
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (tracked,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert tracked.info.status == "FINISHED"
    steps = {entry.step for entry in client.get_metric_history(tracked.info.run_id, "validation_accuracy")}
    assert steps == set(range(1, 9))


def test_a_phase_changes_only_the_weights_that_it_trains(tiny_recipe: Make, tmp_path: Path) -> None:
    lines: list[str] = []
    options = ["model.name=cnn", "train.batch_size=200", "data.subset_size=400", "train.schedule=null"]
    phases = "train.phases=[{epochs: 1, lr: 0.1, trainable: head}]"
    recipe = tiny_recipe("train.epochs=null", phases, *options, f"runs_dir={tmp_path}")
    first = check(recipe).classifier.network.state_dict()
    run = train(recipe, lines.append)
    after = load_file(run.path / "model.safetensors")
    # The statistics of frozen batch normalisation are unchanged too.
    assert {name for name in after if not torch.equal(after[name], first[name])} == {"20.weight", "20.bias"}
    assert "278,890 parameters, 1,290 trainable, 277,600 frozen" in lines[0]


def test_the_learning_rate_rises_during_warmup_and_then_follows_the_schedule(tiny_recipe: Make, tmp_path: Path) -> None:
    options = ["train.epochs=4", "train.warmup_epochs=2", "train.schedule={name: StepLR, options: {step_size: 3}}"]
    run = train(tiny_recipe("data.subset_size=400", *options, "train.optimizer.lr=0.004", f"runs_dir={tmp_path}"))
    assert [epoch["lr"] for epoch in run.metrics["epochs"]] == pytest.approx([0.002, 0.004, 0.004, 0.0004])


def test_checkpoints_are_saved_at_the_interval_and_training_stops_early(tiny_recipe: Make, tmp_path: Path) -> None:
    options = ["train.epochs=9", "train.optimizer.lr=3.0", "train.schedule=null", "train.early_stopping_patience=2"]
    run = train(tiny_recipe("data.subset_size=400", *options, "train.checkpoint_every=2", f"runs_dir={tmp_path}"))
    accuracies = [epoch["validation_accuracy"] for epoch in run.metrics["epochs"]]
    epochs = len(accuracies)
    assert epochs == accuracies.index(max(accuracies)) + 3 < 9
    kept = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert kept == ["best-1.ckpt", *(f"epoch-{n:03}.ckpt" for n in range(2, epochs + 1, 2)), "last.ckpt"]


def test_settings_that_do_not_fit_the_data_or_the_network_are_recipe_errors(tiny_recipe: Make) -> None:
    with pytest.raises(RecipeError, match="train.monitor: map does not fit multiclass data; use accuracy or loss"):
        check(tiny_recipe("train.monitor=map"))
    with pytest.raises(RecipeError, match="trainable 9: the model has 4 blocks before its head"):
        check(tiny_recipe("train.epochs=null", "train.phases=[{epochs: 1, lr: 1, trainable: 9}]"))


def test_the_moving_average_of_the_weights_is_evaluated_and_saved(tiny_recipe: Make, tmp_path: Path) -> None:
    common = ["data.subset_size=400", "train.epochs=2", "train.schedule=null"]
    plain = train(tiny_recipe(*common, f"runs_dir={tmp_path / 'plain'}"))
    averaged = train(tiny_recipe(*common, "train.ema_decay=0.999", f"runs_dir={tmp_path / 'averaged'}"))
    first = check(tiny_recipe(*common)).classifier.network.state_dict()

    def moved(run: Run) -> float:
        after = load_file(run.path / "model.safetensors")
        return sum(float((after[name] - first[name]).norm()) for name in first)

    assert moved(averaged) < 0.7 * moved(plain)
    assert averaged.metrics["validation"]["accuracy"] == pytest.approx(
        averaged.metrics["epochs"][averaged.metrics["best_epoch"] - 1]["validation_accuracy"]
    )


def test_the_best_epoch_of_all_phases_is_kept(tiny_recipe: Make, tmp_path: Path) -> None:
    # The learning rate of the second phase destroys the weights.
    phases = "train.phases=[{epochs: 2, lr: 0.01}, {epochs: 1, lr: 30.0}]"
    options = ["train.epochs=null", phases, "train.schedule=null", "data.subset_size=400", f"runs_dir={tmp_path}"]
    run = train(tiny_recipe(*options))
    epochs = run.metrics["epochs"]
    assert [(epoch["epoch"], epoch["phase"]) for epoch in epochs] == [(1, 1), (2, 1), (3, 2)]
    assert run.metrics["best_epoch"] < 3
    assert run.metrics["validation"]["accuracy"] == pytest.approx(max(epoch["validation_accuracy"] for epoch in epochs))
    assert PhaseSettings(epochs=2, lr=0.01) == run.recipe.train.phases[0]
