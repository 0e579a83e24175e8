"""Optimizers and learning rate schedules of PyTorch and timm by name, and the weights that a phase trains."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Literal

import timm.optim
import timm.scheduler
import torch
from torch import nn

from tamiz.errors import RecipeError, suggest

from .classifier import Classifier
from .recipe import OptimizerSettings, ScheduleSettings
from .validation import lower_is_better

TIMM_SCHEDULES = ("cosine", "tanh", "step", "multistep", "plateau", "poly")


def freeze(classifier: Classifier, trainable: Literal["all", "head"] | int) -> None:
    """Freeze the weights that a phase does not train, by ``requires_grad``.

    Args:
        classifier: the classifier; it is changed in place.
        trainable: the part to train: ``all``, ``head``, or the head and this number of the last blocks; see
            `Classifier.blocks`.

    Raises:
        RecipeError: the network has fewer blocks.
    """
    classifier.requires_grad_(trainable == "all")
    if trainable == "all":
        return
    for head in classifier.heads:
        head.requires_grad_(True)
    if trainable == "head":
        return
    blocks = classifier.blocks()
    if trainable > len(blocks):
        raise RecipeError(f"train.phases: trainable {trainable}: the model has {len(blocks)} blocks before its head")
    weights = dict(classifier.network.named_parameters())
    for block in blocks[-trainable:]:
        for name in block:
            weights[name].requires_grad_(True)


def create_optimizer(settings: OptimizerSettings, lr: float, network: nn.Module) -> torch.optim.Optimizer:
    """Create the optimizer of all weights that are not frozen.

    Args:
        settings: the name and the arguments of the optimizer.
        lr: the learning rate, instead of the one in the settings.
        network: the network.

    Raises:
        RecipeError: there is no such optimizer, or it does not take an argument.
    """
    known = {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name != "Optimizer"
    }
    timm_names = [str(name) for name in timm.optim.list_optimizers()]
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer: torch.optim.Optimizer
    try:
        if settings.name in timm_names:
            optimizer = timm.optim.create_optimizer_v2(weights, opt=settings.name, lr=lr, **settings.options)
        else:
            kind = _find("train.optimizer", settings.name, settings.options, known, timm_names)
            optimizer = kind(weights, lr=lr, **settings.options)
    except (TypeError, ValueError) as exc:
        raise RecipeError(f"train.optimizer: {settings.name}: {exc}") from exc
    return optimizer


def create_schedule(
    settings: ScheduleSettings, optimizer: torch.optim.Optimizer, *, epochs: int, total_steps: int, monitor: str
) -> dict[str, Any]:
    """Create a learning rate schedule, in the form that Lightning expects.

    Args:
        settings: the name and the arguments of the schedule.
        optimizer: the optimizer whose learning rate it sets.
        epochs: the number of epochs of the phase.
        total_steps: the number of optimizer steps of the phase.
        monitor: the logged metric that a plateau schedule watches.

    Raises:
        RecipeError: there is no such schedule, or it does not take an argument.
    """
    mode = "min" if lower_is_better(monitor) else "max"
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
            kind = _find("train.schedule", settings.name, settings.options, known, TIMM_SCHEDULES)
            by_step = "total_steps" in inspect.signature(kind).parameters
            if by_step:
                options.setdefault("total_steps", total_steps)
            if settings.name == "OneCycleLR":
                options.setdefault("max_lr", [group["lr"] for group in optimizer.param_groups])
                options.setdefault("cycle_momentum", not {"momentum", "betas"}.isdisjoint(optimizer.defaults))
            if settings.name == "ReduceLROnPlateau":
                options.setdefault("mode", mode)
            scheduler = kind(optimizer, **options)
    except ZeroDivisionError as exc:
        zeros = ", ".join(f"options.{name}" for name, value in settings.options.items() if value == 0) or "its options"
        raise RecipeError(f"train.schedule: {settings.name} divides by zero: set {zeros} to another value") from exc
    except (TypeError, ValueError) as exc:
        raise RecipeError(f"train.schedule: {settings.name}: {exc}") from exc
    return {
        "scheduler": scheduler,
        "interval": "step" if by_step else "epoch",
        "monitor": monitor,
        "reduce_on_plateau": settings.name in {"ReduceLROnPlateau", "plateau"},
    }


def _find(
    key: str, name: str, options: dict[str, Any], known: dict[str, type[Any]], timm_names: Iterable[str]
) -> type[Any]:
    """PyTorch's class of the given name, after a check that it takes the options."""
    if name not in known:
        hint = suggest(name, [*known, *timm_names])
        raise RecipeError(f"{key}.name: neither torch nor timm has {name!r}{hint}")
    taken = inspect.signature(known[name]).parameters
    if wrong := [option for option in options if option not in taken]:
        raise RecipeError(f"{key}.options: {name} takes no {wrong[0]!r}{suggest(wrong[0], taken)}")
    return known[name]
