"""Optimizers, schedules and the frozen part of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from graphs import make_spec

from tamiz import RecipeError
from tamiz_train.networks import build_classifier
from tamiz_train.optimization import check_optimizer, check_schedule, create_optimizer, create_schedule, freeze
from tamiz_train.recipe import ModelSettings, OptimizerSettings, Recipe, ScheduleSettings
from tamiz_train.setup import check


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
def test_the_last_blocks_are_trainable_and_the_others_frozen(name: str, trainable: Any, expected: set[str]) -> None:
    spec = make_spec(["a", "b"], 64, 64, "RGB")
    classifier = build_classifier(ModelSettings(name=name), spec)
    freeze(classifier, trainable)
    trained = {name for name, weight in classifier.network.named_parameters() if weight.requires_grad}
    parts = {
        ".".join(n.split(".")[:2]) if n.split(".")[0] in {"blocks", "stages"} else n.split(".")[0] for n in trained
    }
    assert parts == expected
    with pytest.raises(RecipeError, match=r"trainable 99: the model has \d+ blocks before its head"):
        freeze(classifier, 99)


def test_an_unknown_optimizer_schedule_or_argument_is_a_recipe_error(
    tiny_recipe: Callable[..., Recipe],
) -> None:
    with pytest.raises(RecipeError, match="neither torch nor timm has 'AdmW'; did you mean 'AdamW'"):
        check(tiny_recipe("train.optimizer.name=AdmW"))
    network = torch.nn.Linear(2, 2)
    optimizer = create_optimizer(OptimizerSettings(name="SGD", lr=0.1), 0.1, network)
    for settings, message in (
        (ScheduleSettings(name="OneCycle"), "did you mean 'OneCycleLR'"),
        (ScheduleSettings(name="StepLR", options={"step": 1}), "takes no 'step'"),
        (ScheduleSettings(name="StepLR"), "train.schedule: StepLR: .*step_size"),
        (ScheduleSettings(name="cosin"), "did you mean 'cosine'"),
        (
            ScheduleSettings(name="CyclicLR", options={"base_lr": 0.1, "max_lr": 0.2, "step_size_up": 0}),
            "train.schedule: CyclicLR divides by zero: set options.step_size_up to another value",
        ),
        (ScheduleSettings(name="cosine", options={"min": 1}), "train.schedule: cosine: .*min"),
    ):
        with pytest.raises(RecipeError, match=message):
            create_schedule(settings, optimizer, epochs=1, total_steps=10, monitor="validation_loss")
    with pytest.raises(RecipeError, match="takes no 'weight_decy'; did you mean 'weight_decay'"):
        create_optimizer(OptimizerSettings(name="AdamW", lr=0.1, options={"weight_decy": 0}), 0.1, network)
    with pytest.raises(RecipeError, match="train.optimizer: lamb: .*weight_decy"):
        create_optimizer(OptimizerSettings(name="lamb", lr=0.1, options={"weight_decy": 0}), 0.1, network)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("CosineAnnealingLR, options: {T_max: 0}", "CosineAnnealingLR divides by zero: set options.T_max"),
        ("StepLR, options: {step_size: 0, last_epoch: -1}", "StepLR divides by zero: set options.step_size to"),
        ("LinearLR, options: {total_iters: 0}", "LinearLR: options.total_iters is 0; set it to 1 or more"),
        ("PolynomialLR, options: {total_iters: -3}", "PolynomialLR: options.total_iters is -3; set it to 1 or more"),
        (
            "CyclicLR, options: {base_lr: 0.1, max_lr: 0.2, step_size_up: 0, cycle_momentum: false}",
            "CyclicLR divides by zero: set options.step_size_up to another value",
        ),
        ("step, options: {decay_epochs: 0}", "step divides by zero: set options.decay_epochs"),
        (
            "MultiStepLR, options: {milestones: 3}",
            "MultiStepLR: .*not iterable; set options.milestones to another value",
        ),
        (
            "OneCycleLR, options: {total_steps: 10}",
            r"OneCycleLR fails in step 11 of 30: Tried to step 11 times.*; set options.total_steps to another value",
        ),
        (
            "ExponentialLR, options: {gamma: 1.0e+300}",
            "ExponentialLR gives a learning rate of inf in epoch 3 of 3; set options.gamma",
        ),
        ("ExponentialLR, options: {gamma: .nan}", "ExponentialLR gives a learning rate of nan in epoch 2 of 3"),
        ("ExponentialLR, options: {gamma: -1}", "ExponentialLR gives a learning rate of -0.006 in epoch 2 of 3"),
        (
            "ReduceLROnPlateau, options: {patience: x}",
            "ReduceLROnPlateau fails in epoch 1 of 3: .*; set options.patience",
        ),
        ("ChainedScheduler, options: {schedulers: [a]}", "ChainedScheduler: .*set options.schedulers"),
        ("cosine, options: {cycle_mul: x}", "cosine: .*set options.cycle_mul"),
    ],
)
def test_a_schedule_that_fails_only_when_it_is_stepped_is_found(schedule: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"train.schedule: {message}"):
        step_through(schedule)


def step_through(schedule: str) -> None:
    """Check a schedule for three epochs of ten steps each."""
    settings = ScheduleSettings.model_validate(yaml.safe_load(f"{{name: {schedule}}}"))
    optimizer = create_optimizer(OptimizerSettings(name="AdamW"), 0.006, torch.nn.Linear(2, 2))
    check_schedule(settings, optimizer, epochs=3, total_steps=30, monitor="validation_loss")


@pytest.mark.parametrize(
    "schedule",
    [
        "OneCycleLR",
        "OneCycleLR, options: {total_steps: 30, anneal_strategy: linear}",
        "OneCycleLR, options: {epochs: 3, steps_per_epoch: 10}",
        "CosineAnnealingLR, options: {T_max: 3}",
        "CosineAnnealingWarmRestarts, options: {T_0: 2}",
        "LinearLR, options: {total_iters: 2}",
        "MultiStepLR, options: {milestones: [1, 2]}",
        "ReduceLROnPlateau",
        "StepLR, options: {step_size: 1}",
        "cosine, options: {warmup_epochs: 1}",
        "poly",
        "tanh",
    ],
)
def test_a_schedule_that_works_passes_the_check(schedule: str) -> None:
    step_through(schedule)


def test_a_recipe_is_checked_for_the_steps_that_its_run_takes(tiny_recipe: Callable[..., Recipe]) -> None:
    # Of 257 images in batches of 64, the last one has 65; with 3 batches for a step, an epoch has 2 steps.
    options = ["train.batch_size=64", "train.accumulate=3", "data.subset_size=257"]
    for epochs, enough in ((2, True), (3, False)):
        schedule = "train.schedule={name: OneCycleLR, options: {total_steps: 4}}"
        recipe = tiny_recipe(schedule, f"train.epochs={epochs}", *options)
        if enough:
            check(recipe)
        else:
            with pytest.raises(RecipeError, match="train.schedule: OneCycleLR fails in step 5 of 6: Tried to step 5"):
                check(recipe)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("SparseAdam", "SparseAdam cannot train a network: .*dense gradients"),
        ("AdamW, options: {betas: [0.9]}", "AdamW: "),
        ("SGD, options: {momentum: x}", "SGD.*"),
        ("AdamW, options: {betas: 0.9}", "AdamW: "),
        ("AdamW, options: {eps: x}", "AdamW"),
    ],
)
def test_an_optimizer_that_fails_only_when_it_is_stepped_is_found(optimizer: str, message: str) -> None:
    settings = OptimizerSettings.model_validate(yaml.safe_load(f"{{name: {optimizer}}}"))
    with pytest.raises(RecipeError, match=f"train.optimizer: {message}"):
        check_optimizer(settings, 0.01, torch.device("cpu"))


@pytest.mark.parametrize("name", ["AdamW", "LBFGS", "SGD", "adafactor", "lamb", "lion"])
def test_an_optimizer_that_works_passes_the_check(name: str) -> None:
    check_optimizer(OptimizerSettings(name=name), 0.01, torch.device("cpu"))


def test_the_check_of_a_recipe_includes_its_optimizer(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="train.optimizer: SparseAdam"):
        check(tiny_recipe("train.optimizer.name=SparseAdam"))
