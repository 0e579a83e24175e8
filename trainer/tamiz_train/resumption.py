"""Resumption with other settings: what may change when a run is resumed, and what to change after it diverged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from tamiz.errors import RecipeError
from tamiz.files import write_whole

from .recipe import Recipe, TrainSettings, load_recipe
from .run import Run

CHANGEABLE = (
    "train.optimizer.lr",
    "train.optimizer.options",
    "train.schedule",
    "train.phases",
    "train.warmup_epochs",
    "train.gradient_clip",
    "train.device",
    "train.num_workers",
    "train.num_threads",
)
"""The keys of a recipe that may change when a run is resumed. Of the phases, only the learning rates may change."""


def change_recipe(run: Run, overrides: Sequence[str]) -> Run:
    """Change the recipe that is saved in an unfinished run.

    Args:
        run: the run.
        overrides: ``key=value`` strings; see `load_recipe`.

    Returns:
        the run with its new recipe.

    Raises:
        RecipeError: a key may not change, or its value is invalid.
        OutputError: the recipe cannot be written.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not any(key == known or key.startswith(f"{known}.") for known in CHANGEABLE):
            raise RecipeError(
                f"--set {key[:100]}: a resumed run cannot change it, only {', '.join(CHANGEABLE)}; start a new run "
                "to change anything else"
            )
    recipe = load_recipe(run.path / "recipe.yaml", overrides)
    if _lengths(recipe) != _lengths(run.recipe):
        raise RecipeError(
            "--set train.phases: a resumed run can change the learning rates of its phases, not their number, their "
            "epochs or what they train; start a new run to change these"
        )
    write_whole(run.path / "recipe.yaml", recipe.to_yaml())
    return Run(run.path)


def lower_rate(run: Path, settings: TrainSettings, phase: int) -> str:
    """The command that resumes a run with a tenth of its learning rate.

    Args:
        run: the folder of the run.
        settings: the settings that the run was trained with.
        phase: the index of the phase, from 0, whose learning rate is too high.
    """
    options = settings.schedule.options if settings.schedule else {}
    if isinstance(options.get("max_lr"), (int, float)):
        change = f"train.schedule.options.max_lr={options['max_lr'] / 10:g}"
    elif settings.phases:
        phases = [each.model_dump() for each in settings.phases]
        phases[phase]["lr"] /= 10
        change = (
            f"'train.phases={yaml.safe_dump(phases, default_flow_style=True, sort_keys=False, width=10**6).strip()}'"
        )
    else:
        change = f"train.optimizer.lr={settings.optimizer.lr / 10:g}"
    return f"tamiz train --resume {run} --set {change}"


def _lengths(recipe: Recipe) -> list[tuple[object, object]]:
    return [(phase.epochs, phase.trainable) for phase in recipe.train.all_phases()]
