"""Training goes on where it was interrupted, in phases, with every setting that changes how it goes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import TAMIZ
from safetensors.torch import load_file

from tamiz import RecipeError, RunError
from tamiz_train import fitting
from tamiz_train.data import load_data
from tamiz_train.models import create_model
from tamiz_train.module import ClassifierModule, create_loss, create_mix
from tamiz_train.optimization import freeze
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.settings import HeadSettings, ModelSettings, PhaseSettings
from tamiz_train.training import prepare, resume, train

Make = Callable[..., Recipe]


class Interrupted(BaseException):
    """What ends a run in the middle."""


def interrupt_after(epochs: int, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train until the middle of the epoch after that many, as a process does that is killed then."""
    step = ClassifierModule.training_step

    def stop(self: ClassifierModule, batch: Any, index: int) -> Any:
        done = len(next(c for c in self.trainer.callbacks if isinstance(c, fitting._History)).epochs)
        if done == epochs and index == 2:
            raise Interrupted
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierModule, "training_step", stop)
        with pytest.raises(Interrupted):
            train(recipe)
    return Run.find_begun(recipe.runs_dir / recipe.name)


def figures(run: Run) -> list[dict[str, float]]:
    return [
        {name: value for name, value in epoch.items() if name not in {"seconds", "images_per_s"}}
        for epoch in run.metrics["epochs"]
    ]


ONE_CYCLE: list[str] = []
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
def test_a_resumed_run_has_the_losses_of_one_that_was_not_interrupted(
    options: list[str], after: int, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["data.subset_size=400", "train.epochs=4", *options]
    whole = train(tiny_recipe(*common, f"runs_dir={tmp_path / 'whole'}"))
    begun = interrupt_after(after, tiny_recipe(*common, f"runs_dir={tmp_path / 'begun'}"), monkeypatch)
    assert not begun.finished
    resumed = resume(begun)
    assert resumed.path == begun.path
    assert figures(resumed) == figures(whole)
    mine, others = (load_file(run.path / "model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(mine[name], others[name]) for name in others)
    assert resumed.metrics["test"] == whole.metrics["test"]


def test_a_run_that_no_epoch_completed_begins_again(
    tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("data.subset_size=400", "train.epochs=1", f"runs_dir={tmp_path}")
    begun = interrupt_after(0, recipe, monkeypatch)
    assert resume(begun).finished


def test_a_finished_run_is_left_as_it_is_and_a_broken_checkpoint_is_told(
    run: Run, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    before = (run.path / "metrics.json").read_bytes()
    assert resume(run, said.append).path == run.path
    assert "is finished; nothing is left to do" in said[0]
    assert (run.path / "metrics.json").read_bytes() == before
    begun = interrupt_after(1, tiny_recipe("data.subset_size=400", f"runs_dir={tmp_path / 'runs'}"), monkeypatch)
    (begun.path / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    with pytest.raises(RunError, match=r"last.ckpt cannot be read"):
        resume(begun)


def test_a_run_goes_on_in_another_folder_and_wherever_it_was_moved(
    digits: Path, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits").symlink_to(digits)
    common = ["data.root=data/digits", "data.subset_size=400", "train.epochs=4"]
    whole = train(tiny_recipe(*common, f"runs_dir={tmp_path / 'whole'}"))
    recipe = tiny_recipe(*common, "runs_dir=begun", "tracking.uri=sqlite:///mlflow.db", "train.num_workers=1")
    begun = interrupt_after(3, recipe, monkeypatch)
    moved = Run(Path(shutil.move(begun.path, tmp_path / "moved")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert figures(resume(moved)) == figures(whole)
    mine, others = (load_file(run / "model.safetensors") for run in (moved.path, whole.path))
    assert all(torch.equal(mine[name], others[name]) for name in others)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_does_not_go_on_with_other_images_or_labels(
    digits: Path, tiny_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(digits, tmp_path / "digits"))
    begun = interrupt_after(
        1, tiny_recipe(f"data.root={root}", "train.epochs=2", f"runs_dir={tmp_path / 'runs'}"), monkeypatch
    )
    one = next((root / "train" / "3").iterdir())
    shutil.copy(one, root / "train" / "3" / "new.png")
    with pytest.raises(RunError, match="other images in train and validation than the run began with"):
        resume(begun)
    (root / "train" / "3" / "new.png").unlink()
    for split in ("train", "test"):
        (root / split / "3").rename(root / split / "zebra")
    with pytest.raises(RunError, match="now has the labels 0, 1, 2, 4, 5, 6, 7, 8, 9, zebra"):
        resume(begun)
    for split in ("train", "test"):
        (root / split / "zebra").rename(root / split / "3")
    assert resume(begun).finished


@pytest.mark.parametrize("workers", [0, 1])
def test_what_training_fails_with_is_one_line(workers: int, digits: Path, tiny_recipe: Make, tmp_path: Path) -> None:
    root = Path(shutil.copytree(digits, tmp_path / "digits"))
    for path in sorted((root / "train" / "5").iterdir()):
        cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    options = [f"data.root={root}", "augmentation=[{RandomCrop: {height: 8, width: 8}}]"]
    with pytest.raises(RunError, match=r"training failed in .*: .*[Cc]rop") as caught:
        train(tiny_recipe(*options, f"train.num_workers={workers}", f"runs_dir={tmp_path / 'runs'}"))
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_like_1e_6_is_one_and_a_class_without_an_image_has_a_weight(tiny_recipe: Make, tmp_path: Path) -> None:
    schedule = "train.schedule={name: CosineAnnealingLR, options: {T_max: 10, eta_min: 1e-6}}"
    options = [schedule, "train.class_weights=balanced", "data.subset_size=12", f"runs_dir={tmp_path}"]
    assert train(tiny_recipe(*options)).finished


def test_a_run_that_diverged_is_told(tiny_recipe: Make, tmp_path: Path) -> None:
    options = ["train.optimizer={name: SGD, lr: 1e30}", "train.schedule=null", "data.subset_size=200"]
    with pytest.raises(RunError, match="it diverged"):
        train(tiny_recipe(*options, "train.epochs=1", f"runs_dir={tmp_path}"))


def signal_in_third_epoch(number: int, sets: list[str], cwd: Path) -> tuple[subprocess.Popen[str], str]:
    """A `tamiz train digits` that was sent a signal when it had told of its second epoch, and what it said then."""
    process = subprocess.Popen(
        [TAMIZ, "train", "digits", *(part for item in sets for part in ("--set", item))],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        # A shell's background jobs, which tests may be, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            process.send_signal(number)
            break
    said, _ = process.communicate(timeout=60)
    return process, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_says_how_to_go_on(number: int, digits: Path, tmp_path: Path) -> None:
    process, said = signal_in_third_epoch(
        number, [f"data.root={digits}", "train.epochs=500", "tracking.uri=null"], tmp_path
    )
    assert process.returncode == 130
    begun = Run.find_begun(tmp_path / "runs" / "digits")
    assert f"`tamiz train --resume {begun.path.relative_to(tmp_path)}` goes on" in said


def test_the_command_resumes_a_killed_run_and_mlflow_has_one_run_of_it(
    digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    sets = [f"data.root={digits}", "train.epochs=8", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    process, _ = signal_in_third_epoch(signal.SIGKILL, sets, tmp_path)
    assert process.returncode == -signal.SIGKILL
    begun = Run.find_begun(tmp_path / "runs" / "digits")
    assert not begun.finished
    done = tamiz("train", "--resume", "runs/digits", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    epochs = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("epoch ")]
    # The checkpoint is written just after the epoch is told, so a kill in between repeats the epoch.
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


def test_only_what_a_phase_trains_is_changed_by_it(tiny_recipe: Make, tmp_path: Path) -> None:
    said: list[str] = []
    options = ["model.name=cnn", "train.batch_size=200", "data.subset_size=400", "train.schedule=null"]
    phases = "train.phases=[{epochs: 1, lr: 0.1, trainable: head}]"
    recipe = tiny_recipe("train.epochs=null", phases, *options, f"runs_dir={tmp_path}")
    first = prepare(recipe).classifier.backbone.state_dict()
    run = train(recipe, said.append)
    after = load_file(run.path / "model.safetensors")
    # The statistics of frozen batch normalisation stay too.
    assert {name for name in after if not torch.equal(after[name], first[name])} == {"20.weight", "20.bias"}
    assert "278,890 parameters, 1,290 trainable, 277,600 frozen" in said[0]


@pytest.mark.parametrize(
    ("name", "trainable", "expected"),
    [
        ("efficientnet_b0", "head", {"classifier"}),
        ("efficientnet_b0", 1, {"classifier", "conv_head", "bn2", "blocks.6"}),
        ("mobilevit_s", 1, {"head", "final_conv", "stages.4"}),
        ("resnet18", 2, {"fc", "layer4", "layer3"}),
        ("lenet5", 1, {"11", "9"}),
    ],
)
def test_blocks_are_counted_from_the_head(name: str, trainable: Any, expected: set[str]) -> None:
    from graphs import make_spec

    spec = make_spec(["a", "b"], 64, 64, "RGB")
    classifier = create_model(ModelSettings(name=name), spec)
    freeze(classifier, trainable)
    trained = {name for name, weight in classifier.backbone.named_parameters() if weight.requires_grad}
    parts = {
        ".".join(n.split(".")[:2]) if n.split(".")[0] in {"blocks", "stages"} else n.split(".")[0] for n in trained
    }
    assert parts == expected
    with pytest.raises(RecipeError, match=r"trainable 99: the model has \d+ blocks before its head"):
        freeze(classifier, 99)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilevit_s", "lenet5"])
def test_a_deeper_head_takes_the_place_of_the_models_own(name: str, tmp_path: Path) -> None:
    from graphs import make_spec

    spec = make_spec(["a", "b", "c"], 64, 64, "RGB")
    head = HeadSettings(hidden=(32, 16), dropout=(0.3, 0.3, 0.2), init="xavier")
    settings = ModelSettings(name=name, head=head)
    classifier = create_model(settings, spec)
    kinds = [type(layer).__name__ for layer in classifier.head]
    assert kinds == ["Dropout", "Linear", "ReLU"] * 2 + ["Dropout", "Linear"]
    assert [layer.p for layer in classifier.head if isinstance(layer, torch.nn.Dropout)] == [0.3, 0.3, 0.2]
    last = classifier.head[-1]
    assert (last.in_features, last.out_features) == (16, 3)
    assert last.bias.abs().max() == 0
    assert last.weight.abs().max() <= np.sqrt(6 / (16 + 3))
    with classifier.eval().pooled_features() as features, torch.no_grad():
        logits = classifier(torch.zeros((2, 64, 64, 3), dtype=torch.uint8))
    assert logits.shape == (2, 3)
    assert features[0].shape == (2, classifier.head[1].in_features)
    # Weights of the plain model go in below it, and those of the same head into it.
    torch.save(create_model(ModelSettings(name=name), spec).backbone.state_dict(), tmp_path / "plain.pt")
    torch.save(classifier.backbone.state_dict(), tmp_path / "same.pt")
    create_model(settings.model_copy(update={"weights": tmp_path / "plain.pt"}), spec)
    same = create_model(settings.model_copy(update={"weights": tmp_path / "same.pt"}), spec)
    torch.testing.assert_close(same.head[-1].weight, last.weight)


def test_mixed_images_and_targets_are_of_two_images() -> None:
    from tamiz_train.settings import OptimizerSettings, TrainSettings

    settings = TrainSettings(epochs=1, batch_size=4, optimizer=OptimizerSettings(lr=1), mixup=1.0)
    images = torch.tensor([0, 100, 200, 50], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 8, 8, 3).contiguous()
    mixed, shares = create_mix(settings, 4)(images, torch.arange(4))
    assert mixed.shape == (4, 8, 8, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    torch.testing.assert_close(shares @ images[:, 0, 0, 0].float(), mixed[:, 0, 0, 0])
    cut, shares = create_mix(settings.model_copy(update={"mixup": 0.0, "cutmix": 1.0}), 4)(images, torch.arange(4))
    torch.testing.assert_close(cut.mean((1, 2, 3)), shares @ images[:, 0, 0, 0].float())
    assert create_mix(settings.model_copy(update={"mixup": 0.0}), 4) is None


def test_balanced_weights_make_classes_count_the_same(tiny_recipe: Make, tmp_path: Path, digits: Path) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    for path in sorted((root / "train" / "3").iterdir())[20:]:
        path.unlink()
    recipe = tiny_recipe(f"data.root={root}", "train.class_weights=balanced", "data.validation_share=0.1")
    data = load_data(recipe.data, 0)
    weights = create_loss(recipe.train, data).weight
    products = weights.numpy() * data.train.counts(10)
    np.testing.assert_allclose(products, len(data.train) / 10, rtol=1e-5)


def test_the_rate_rises_while_warming_up_and_then_follows_the_schedule(tiny_recipe: Make, tmp_path: Path) -> None:
    options = ["train.epochs=4", "train.warmup_epochs=2", "train.schedule={name: StepLR, options: {step_size: 3}}"]
    run = train(tiny_recipe("data.subset_size=400", *options, "train.optimizer.lr=0.004", f"runs_dir={tmp_path}"))
    assert [epoch["lr"] for epoch in run.metrics["epochs"]] == pytest.approx([0.002, 0.004, 0.004, 0.0004])


def test_checkpoints_are_kept_as_asked_for_and_training_stops_early(tiny_recipe: Make, tmp_path: Path) -> None:
    options = ["train.epochs=9", "train.optimizer.lr=3.0", "train.schedule=null", "train.early_stopping_patience=2"]
    run = train(tiny_recipe("data.subset_size=400", *options, "train.checkpoint_every=2", f"runs_dir={tmp_path}"))
    epochs = len(run.metrics["epochs"])
    assert epochs == run.metrics["best_epoch"] + 2 < 9
    kept = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert kept == ["best-1.ckpt", *(f"epoch-{n:03}.ckpt" for n in range(2, epochs + 1, 2)), "last.ckpt"]


def test_what_does_not_belong_to_the_data_is_told_before_training(tiny_recipe: Make) -> None:
    with pytest.raises(RecipeError, match="train.monitor: map is not of multiclass data; take accuracy or loss"):
        prepare(tiny_recipe("train.monitor=map"))
    with pytest.raises(RecipeError, match="trainable 9: the model has 4 blocks before its head"):
        prepare(tiny_recipe("train.epochs=null", "train.phases=[{epochs: 1, lr: 1, trainable: 9}]"))


def test_the_average_of_weights_is_what_is_evaluated_and_kept(tiny_recipe: Make, tmp_path: Path) -> None:
    common = ["data.subset_size=400", "train.epochs=2", "train.schedule=null"]
    plain = train(tiny_recipe(*common, f"runs_dir={tmp_path / 'plain'}"))
    averaged = train(tiny_recipe(*common, "train.ema_decay=0.999", f"runs_dir={tmp_path / 'averaged'}"))
    first = prepare(tiny_recipe(*common)).classifier.backbone.state_dict()

    def moved(run: Run) -> float:
        after = load_file(run.path / "model.safetensors")
        return sum(float((after[name] - first[name]).norm()) for name in first)

    assert moved(averaged) < 0.7 * moved(plain)
    assert averaged.metrics["validation"]["accuracy"] == pytest.approx(
        averaged.metrics["epochs"][averaged.metrics["best_epoch"] - 1]["validation_accuracy"]
    )


def test_phases_have_an_order_of_their_own_and_the_best_of_all_is_kept(tiny_recipe: Make, tmp_path: Path) -> None:
    # A second phase that destroys what the first has learnt.
    phases = "train.phases=[{epochs: 2, lr: 0.01}, {epochs: 1, lr: 30.0}]"
    options = ["train.epochs=null", phases, "train.schedule=null", "data.subset_size=400", f"runs_dir={tmp_path}"]
    run = train(tiny_recipe(*options))
    epochs = run.metrics["epochs"]
    assert [(epoch["epoch"], epoch["phase"]) for epoch in epochs] == [(1, 1), (2, 1), (3, 2)]
    assert run.metrics["best_epoch"] < 3
    assert run.metrics["validation"]["accuracy"] == pytest.approx(max(epoch["validation_accuracy"] for epoch in epochs))
    assert PhaseSettings(epochs=2, lr=0.01) == run.recipe.train.phases[0]
