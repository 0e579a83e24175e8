"""Optimizers, schedules and the frozen part of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from graphs import make_spec

from tamiz import RecipeError
from tamiz_train.networks import build_classifier
from tamiz_train.optimization import create_optimizer, create_schedule, freeze
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
