"""Optimizers and learning rate schedules of PyTorch and timm by name, and the weights that a phase trains."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import timm.optim
import timm.scheduler
import torch
from torch import Tensor, nn

from tamiz.errors import RecipeError, TamizError, one_line, suggest

from .classifier import Classifier
from .recipe import OptimizerSettings, ScheduleSettings
from .validation import lower_is_better

TIMM_SCHEDULES = ("cosine", "tanh", "step", "multistep", "poly")

MAX_CHECKED_STEPS = 200_000
"""The number of steps for which a schedule is checked; they take about a second."""


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
    except TamizError:
        raise
    # Constructors raise errors of many classes for a wrong argument.
    except Exception as exc:
        raise RecipeError(f"train.optimizer: {settings.name}: {one_line(exc) or type(exc).__name__}") from exc
    return optimizer


def check_optimizer(settings: OptimizerSettings, lr: float, device: torch.device) -> None:
    """Train a few weights for two steps, because some arguments of an optimizer are wrong only when it is stepped.

    Args:
        settings: the name and the arguments of the optimizer.
        lr: the learning rate, instead of the one in the settings.
        device: the device that training uses.

    Raises:
        RecipeError: there is no such optimizer, it does not take an argument, or it fails.
    """
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)).to(device)
    optimizer = create_optimizer(settings, lr, network)

    @torch.enable_grad()
    def compute_loss() -> Any:
        optimizer.zero_grad()
        loss: Tensor = network(torch.ones(2, 1, 3, 3, device=device)).square().mean()
        torch.autograd.backward(loss)
        return loss

    try:
        for _ in range(2):
            optimizer.step(compute_loss)
    except Exception as exc:
        reason = one_line(exc) or type(exc).__name__
        raise RecipeError(f"train.optimizer: {settings.name} cannot train a network: {reason}") from exc


def create_schedule(
    settings: ScheduleSettings, optimizer: torch.optim.Optimizer, *, epochs: int, total_steps: int, monitor: str
) -> dict[str, Any]:
    """Create a learning rate schedule, in the form that Lightning expects.

    Args:
        settings: the name and the arguments of the schedule.
        optimizer: the optimizer whose learning rate it sets.
        epochs: the number of epochs of the phase.
        total_steps: the number of optimizer steps of the phase.
        monitor: the logged metric that ``ReduceLROnPlateau`` watches.

    Raises:
        RecipeError: there is no such schedule, or it does not take an argument.
    """
    mode = "min" if lower_is_better(monitor) else "max"
    known = {
        name: kind
        for name, kind in vars(torch.optim.lr_scheduler).items()
        if isinstance(kind, type) and hasattr(kind, "step") and name[0] != "_" and name != "LRScheduler"
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
    except TamizError:
        raise
    # As constructors of optimizers.
    except Exception as exc:
        raise _schedule_error(settings, exc, "") from exc
    return {
        "scheduler": scheduler,
        "interval": "step" if by_step else "epoch",
        "monitor": monitor,
        "reduce_on_plateau": settings.name == "ReduceLROnPlateau",
    }


def check_schedule(
    settings: ScheduleSettings, optimizer: torch.optim.Optimizer, *, epochs: int, total_steps: int, monitor: str
) -> None:
    """Step a schedule as often as training will, because most of them fail only then.

    Args:
        settings: the name and the arguments of the schedule.
        optimizer: an optimizer that is not used afterwards, because its learning rate is changed.
        epochs: the number of epochs of the phase.
        total_steps: the number of optimizer steps of the phase. At most `MAX_CHECKED_STEPS` of them are checked.
        monitor: the logged metric that ``ReduceLROnPlateau`` watches.

    Raises:
        RecipeError: there is no such schedule, it does not take an argument, it fails, or it gives a learning rate that
            is negative or not finite.
    """
    iterations = settings.options.get("total_iters")
    if isinstance(iterations, int | float) and iterations < 1:
        # PyTorch computes with it nevertheless: LinearLR and ConstantLR stay at a third of the rate for good.
        raise RecipeError(
            f"train.schedule: {settings.name}: options.total_iters is {iterations:g}; set it to 1 or more"
        )
    created = create_schedule(settings, optimizer, epochs=epochs, total_steps=total_steps, monitor=monitor)
    count = total_steps if created["interval"] == "step" else epochs
    metric = 0.0 if created["reduce_on_plateau"] else None
    with warnings.catch_warnings():
        # PyTorch advises to step the optimizer first.
        warnings.simplefilter("ignore")
        for done in range(min(count, MAX_CHECKED_STEPS)):
            when = f"in {created['interval']} {done + 1} of {count}"
            try:
                rates = [float(group["lr"]) for group in optimizer.param_groups]
                advance_schedule(created["scheduler"], done + 1, metric)
            except Exception as exc:
                raise _schedule_error(settings, exc, f" fails {when}") from exc
            if wrong := [rate for rate in rates if rate < 0 or not math.isfinite(rate)]:
                raise RecipeError(
                    f"train.schedule: {settings.name} gives a learning rate of {wrong[0]:g} {when}; {_remedy(settings)}"
                )


def advance_schedule(scheduler: Any, epoch: int, metric: Any) -> None:
    """Advance a schedule to its next step, or to the start of an epoch.

    Args:
        scheduler: a schedule of PyTorch or timm.
        epoch: the number of completed epochs, which schedules of timm need.
        metric: the value that ``ReduceLROnPlateau`` watches; None for other schedules.
    """
    if not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
        scheduler.step(epoch)
    else:
        scheduler.step(*([] if metric is None else [metric]))


def _schedule_error(settings: ScheduleSettings, exc: Exception, when: str) -> RecipeError:
    if isinstance(exc, ZeroDivisionError):
        zeros = {name: value for name, value in settings.options.items() if value == 0 and value is not False}
        return RecipeError(f"train.schedule: {settings.name} divides by zero: {_remedy(settings, zeros)}")
    reason = one_line(exc).rstrip(".") or type(exc).__name__
    return RecipeError(f"train.schedule: {settings.name}{when}: {reason}; {_remedy(settings)}")


def _remedy(settings: ScheduleSettings, options: dict[str, Any] | None = None) -> str:
    """What to change: the given options, or all that are set."""
    names = " or ".join(f"options.{name}" for name in options or settings.options)
    return f"set {names} to another value" if names else "set its options, or choose another schedule"


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
