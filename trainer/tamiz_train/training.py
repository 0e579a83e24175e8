"""Training: from a recipe to a finished run folder, also after an interruption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch

from tamiz.errors import InvalidImageError, RecipeError, RunError
from tamiz.preprocessing import decode
from tamiz.spec import ModelSpec

from .augmentation import A, check_augmentation, create_augmentation
from .data import Data, Split, load_data
from .distributed import Processes, processes
from .evaluation import evaluate, tune_thresholds
from .fitting import errors_of_training, fit, parameters
from .models import Classifier, check_name, create_model
from .module import create_loss, monitored
from .onnx_export import export
from .optimization import create_optimizer, create_schedule, freeze
from .recipe import Recipe
from .run import Run
from .tracking import Tracker

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """All that a recipe names, found and tried: the network with its first weights, its spec, and the images."""

    recipe: Recipe
    data: Data
    spec: ModelSpec
    classifier: Classifier

    def __str__(self) -> str:
        images = " + ".join(f"{len(split):,}" for split in self.data.splits)
        return (
            f"{self.recipe.name}: {self.recipe.model.name} ({parameters(self.classifier)}), "
            f"{len(self.data.labels)} labels, {images} images to train, validate and test"
        )


def prepare(recipe: Recipe) -> Prepared:
    """Find and try all that a recipe names, without training anything.

    Raises:
        RecipeError: the recipe names something that is not there or does not fit.
    """
    settings = recipe.train
    L.seed_everything(settings.seed, workers=True, verbose=False)
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    check_name(recipe.model)
    data = load_data(recipe.data, settings.seed)
    spec = ModelSpec(
        task=data.task,
        labels=data.labels,
        # Those of training's end may differ, where they are tuned on validation.
        thresholds=_thresholds(recipe, data) if data.task == "multilabel" else None,
        preprocessing=recipe.preprocessing,
        normalisation=recipe.normalisation,
    )
    classifier = create_model(recipe.model, spec)
    # Made only to find what is wrong with them before a run folder is; each phase makes its own.
    create_loss(settings, data)
    for phase in reversed(settings.in_phases()):
        freeze(classifier, phase.trainable)
        optimizer = create_optimizer(settings.optimizer, phase.lr, classifier)
        if settings.schedule:
            create_schedule(
                settings.schedule,
                optimizer,
                epochs=phase.epochs,
                total_steps=100,
                monitor=monitored(settings, data.task),
            )
    monitored(settings, data.task)
    _try_out(classifier, create_augmentation(recipe.augmentation, settings.seed), data.train, spec)
    if settings.compile:
        # In place: the names of the weights stay.
        classifier.compile()
    return Prepared(recipe, data, spec, classifier)


def train(recipe: Recipe, say: Say = lambda line: None) -> Run:
    """Train by a recipe, keep the best epoch, and measure it on validation and test.

    Under `torchrun` its processes train together, and each gets the same run.

    Args:
        recipe: all that the run depends on.
        say: gets a line of text for a person at each step.

    Returns:
        the finished run.

    Raises:
        RecipeError: the recipe names something that is not there; found before anything is trained.
        RunError: training failed, or its folder cannot be written.
    """
    with processes() as group:
        prepared = prepare(recipe)
        run = group.from_first(_begin(prepared) if group.first else None)
        return _complete(run, prepared, group, say)


def resume(run: Run, say: Say = lambda line: None) -> Run:
    """Go on with a run that was interrupted, from its last completed epoch, as if it had not been.

    Raises:
        RecipeError: its images or weights are not there any more.
        RunError: its images or their labels are others now, or training failed.
    """
    if run.finished:
        say(f"{run.path} is finished; nothing is left to do")
        return run
    with processes() as group:
        prepared = prepare(run.recipe)
        if changed := run.changed(prepared.data):
            raise RunError(
                f"{run.recipe.data.root} has other images in {' and '.join(sorted(changed))} than the run began with; "
                "bring the old ones back, or train anew"
            )
        return _complete(run, prepared, group, say)


def _begin(prepared: Prepared) -> Run:
    run = Run.begin(prepared.recipe)
    run.remember(prepared.data, prepared.recipe.data.root)
    return run


def _complete(run: Run, prepared: Prepared, group: Processes, say: Say) -> Run:
    recipe = prepared.recipe
    if not group.first:
        say = _say_nothing
    say(str(prepared))
    with Tracker.start(run, group) as tracker:
        try:
            fitted = fit(prepared.classifier, recipe, prepared.data, run.path, tracker, group, say)
        except KeyboardInterrupt:
            say(f"interrupted: `tamiz train --resume {run.path}` goes on from the last completed epoch")
            raise
        # What the first process measures and writes, the others need not.
        if group.first:
            with errors_of_training(run.path):
                _finish(run, prepared, fitted.broken, tracker, say, epochs=fitted.epochs, best_epoch=fitted.best_epoch)
        group.wait()
    return run


def _finish(run: Run, prepared: Prepared, broken: set[str], tracker: Tracker, say: Say, **history: object) -> None:
    recipe, data, spec, classifier = prepared.recipe, prepared.data, prepared.spec, prepared.classifier
    figures = {}
    for split in (data.validation, data.test):
        measured = evaluate(classifier, split, spec, num_workers=recipe.train.num_workers)
        if not np.isfinite(measured.probabilities).all():
            raise RunError(f"training failed in {run.path}: it diverged, the network gives no numbers; lower the rate")
        if split is data.validation and recipe.thresholds == "tuned" and data.task == "multilabel":
            spec = spec.model_copy(update={"thresholds": tune_thresholds(measured)})
            measured = measured.with_spec(spec)
        broken.update(measured.broken)
        figures[split.name] = measured.metrics
    metrics = {
        **figures,
        **history,
        "parameters": sum(weight.numel() for weight in classifier.parameters()),
        "images": {split.name: len(split) for split in data.splits},
        "broken_images": sorted(broken),
        "mlflow_run_id": tracker.run_id,
    }
    run.finish(classifier, spec, metrics)
    tracker.finish(run, figures)
    if recipe.tracking.log_model:
        tracker.log_model(export(run).path)
    for message in sorted(broken):
        say(f"left out: {message}")
    if broken:
        say(f"{len(broken)} images could not be read and were left out")
    first, value = next(iter(figures["test"].items()), ("accuracy", float("nan")))
    say(f"best epoch {history['best_epoch']}: test {first} {value:.4f}")


def _thresholds(recipe: Recipe, data: Data) -> tuple[float, ...]:
    threshold = 0.5 if recipe.thresholds == "tuned" else recipe.thresholds
    return (threshold,) * len(data.labels)


def _try_out(classifier: Classifier, augmentation: A.Compose | None, split: Split, spec: ModelSpec) -> None:
    """Two images through all that training will do with them, to find what does not fit before it begins."""
    if augmentation is not None:
        for image in split.images[:100]:
            with contextlib.suppress(InvalidImageError):
                check_augmentation(augmentation, decode(image, spec.preprocessing.colour))
                break
    try:
        with torch.no_grad():
            classifier.eval()(torch.zeros((2, *spec.preprocessing.shape), dtype=torch.uint8))
    except (RuntimeError, ValueError, AssertionError) as exc:
        size = f"{spec.preprocessing.height}x{spec.preprocessing.width}"
        raise RecipeError(f"model: cannot take images of {size}: {' '.join(str(exc).split())}") from exc
    finally:
        classifier.train()


def _say_nothing(line: str) -> None:
    """What a process says that is not the first."""
