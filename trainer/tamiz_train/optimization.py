"""Optimizers and schedules by name, of torch and of timm, and the weights that a phase trains."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import timm.optim
import timm.scheduler
import torch
from torch import nn

from tamiz.errors import RecipeError, suggest

from .models import Classifier
from .settings import OptimizerSettings, ScheduleSettings

TIMM_SCHEDULES = ("cosine", "tanh", "step", "multistep", "plateau", "poly")


def freeze(classifier: Classifier, trainable: Literal["all", "head"] | int) -> None:
    """Have the optimizer and batch normalisation leave alone all that is not to be trained.

    Args:
        classifier: whose ``requires_grad`` are set.
        trainable: ``all``, ``head``, or the head and that many of the last blocks, as timm groups a model's layers.

    Raises:
        RecipeError: the model has fewer blocks, or none that timm groups.
    """
    classifier.requires_grad_(trainable == "all")
    if trainable == "all":
        return
    classifier.head.requires_grad_(True)
    if trainable == "head":
        return
    blocks = classifier.blocks()
    if trainable > len(blocks):
        raise RecipeError(f"train.phases: trainable {trainable}: the model has {len(blocks)} blocks before its head")
    weights = dict(classifier.backbone.named_parameters())
    for block in blocks[-trainable:]:
        for name in block:
            weights[name].requires_grad_(True)


def create_optimizer(settings: OptimizerSettings, lr: float, network: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over all weights that are trained.

    Args:
        settings: its name, of ``torch.optim`` or of timm, and its arguments.
        lr: the rate.
        network: whose weights with ``requires_grad`` are trained.

    Raises:
        RecipeError: no such optimizer, or an argument that it does not take.
    """
    known = {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name != "Optimizer"
    }
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        if settings.name in timm.optim.list_optimizers():
            return timm.optim.create_optimizer_v2(weights, opt=settings.name, lr=lr, **settings.options)
        kind = _known("train.optimizer", settings.name, settings.options, known, timm.optim.list_optimizers())
        return kind(weights, lr=lr, **settings.options)
    except (TypeError, ValueError) as exc:
        raise RecipeError(f"train.optimizer: {settings.name}: {exc}") from exc


def create_schedule(
    settings: ScheduleSettings, optimizer: torch.optim.Optimizer, *, epochs: int, total_steps: int, monitor: str
) -> dict[str, Any]:
    """A schedule, in the form that Lightning takes.

    Args:
        settings: its name, of ``torch.optim.lr_scheduler`` or of timm, and its arguments.
        optimizer: whose rate it sets.
        epochs: of the phase.
        total_steps: of the phase.
        monitor: the logged figure that a plateau is seen in; better is lower where it ends in ``loss``.

    Raises:
        RecipeError: no such schedule, or an argument that it does not take.
    """
    mode = "min" if monitor.endswith("loss") else "max"
    known = {
        name: kind
        for name, kind in vars(torch.optim.lr_scheduler).items()
        if isinstance(kind, type) and hasattr(kind, "step") and not name.startswith("_")
    }
    options = dict(settings.options)
    scheduler: Any
    by_step = False
    try:
        if settings.name in TIMM_SCHEDULES:
            if settings.name == "plateau":
                options.setdefault("plateau_mode", mode)
            scheduler, _ = timm.scheduler.create_scheduler_v2(
                optimizer, sched=settings.name, num_epochs=epochs, **options
            )
        else:
            kind = _known("train.schedule", settings.name, settings.options, known, TIMM_SCHEDULES)
            by_step = "total_steps" in inspect.signature(kind).parameters
            if by_step:
                options.setdefault("total_steps", total_steps)
            if settings.name == "ReduceLROnPlateau":
                options.setdefault("mode", mode)
            scheduler = kind(optimizer, **options)
    except (TypeError, ValueError) as exc:
        raise RecipeError(f"train.schedule: {settings.name}: {exc}") from exc
    plateau = settings.name in {"ReduceLROnPlateau", "plateau"}
    return {
        "scheduler": scheduler,
        "interval": "step" if by_step else "epoch",
        "monitor": monitor,
        "reduce_on_plateau": plateau,
    }


def _known(key: str, name: str, options: dict[str, Any], known: dict[str, type[Any]], timm_knows: Any) -> type[Any]:
    if name not in known:
        hint = suggest(name, [*known, *timm_knows])
        raise RecipeError(f"{key}.name: neither torch nor timm has {name!r}{hint}")
    taken = inspect.signature(known[name]).parameters
    if wrong := [option for option in options if option not in taken]:
        raise RecipeError(f"{key}.options: {name} takes no {wrong[0]!r}{suggest(wrong[0], taken)}")
    return known[name]
