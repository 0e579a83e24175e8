"""The setup of a run: what its recipe refers to, found and checked before training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lightning as L
import numpy as np
import torch

from tamiz.errors import InvalidImageError, RecipeError, RunError, one_line
from tamiz.image_files import summarise
from tamiz.preprocessing import decode
from tamiz.spec import ModelSpec

from .augmentation import check_augmentation, create_augmentation
from .classifier import Classifier
from .data import Data, Split, load_data
from .data.check import find_unreadable
from .data.labels import list_some
from .data.loader import count_training_batches
from .loss import create_loss
from .model_input import model_input
from .networks import build_classifier, check_name
from .optimization import check_optimizer, check_schedule, create_optimizer, freeze
from .recipe import ModelSettings, Recipe
from .validation import monitored_metric

if TYPE_CHECKING:
    import albumentations as A


@dataclass(frozen=True)
class Setup:
    """What a recipe refers to, found and checked.

    Attributes:
        recipe: the recipe, with the input that it left to the model.
        data: the data set.
        spec: the spec of the model, before thresholds are tuned.
        classifier: the classifier with its initial weights.
    """

    recipe: Recipe
    data: Data
    spec: ModelSpec
    classifier: Classifier

    def __str__(self) -> str:
        """A line about the recipe, network and images, and one each about left-out files and another precision."""
        images = " + ".join(f"{len(split):,}" for split in self.data.splits)
        summary = (
            f"{self.recipe.name}: {self.recipe.model.name} ({self.classifier.parameter_summary()}), "
            f"{len(self.data.labels)} labels, {images} images for training, validation and test"
        )
        settings = self.recipe.train
        precision = None
        if settings.precision == "16-mixed" and (settings.device == "cpu" or not torch.cuda.is_available()):
            precision = "train.precision: 16-mixed needs a GPU; bf16-mixed is used on this CPU"
        return "\n".join(filter(None, [summary, summarise(self.data.left_out), precision]))


def check(recipe: Recipe) -> Setup:
    """Find everything that a recipe refers to, and check that it fits together, without training.

    Returns:
        the data set, the spec, and the classifier with its initial weights.

    Raises:
        RecipeError: the recipe refers to something that is missing or does not fit.
    """
    settings = recipe.train
    L.seed_everything(settings.seed, workers=True, verbose=False)
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    check_name(recipe.model)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("train.device: cuda: PyTorch finds no GPU on this machine; set it to auto or cpu")
    preprocessing, normalisation = model_input(recipe)
    recipe = recipe.with_input(preprocessing, normalisation)
    data = load_data(recipe.data, settings.seed)
    spec = ModelSpec(
        task=data.task,
        labels=data.labels,
        # If they are tuned, the final ones are set at the end of training.
        thresholds=_initial_thresholds(recipe, data) if data.task == "multilabel" else None,
        preprocessing=preprocessing,
        normalisation=normalisation,
    )
    classifier = build_classifier(recipe.model, spec)
    _check_optimization(recipe, data, classifier)
    augmentation = create_augmentation(recipe.augmentation, settings.seed, preprocessing)
    if augmentation is not None:
        _check_augmentation(augmentation, data.train, spec, skip=recipe.data.on_unreadable == "skip")
    _check_input_size(recipe.model, classifier, spec)
    return Setup(recipe, data, spec, classifier)


def find_unreadable_images(setup: Setup, splits: Sequence[Split], most: int | None = None) -> str:
    """Read the images of some splits, to find those that cannot be read before training does.

    Args:
        setup: the setup of the run.
        splits: the splits.
        most: the number of images to read at most; of more images, evenly spaced ones are read. None reads all.

    Returns:
        one line about the images that cannot be read; empty if there are none.

    Raises:
        RunError: there are some, and the recipe does not leave them out.
    """
    total = sum(map(len, splits))
    share = 1.0 if most is None else min(1.0, most / max(1, total))
    parts = [split.take(np.linspace(0, len(split) - 1, math.ceil(share * len(split))).astype(int)) for split in splits]
    unreadable = [message for part in parts for message in find_unreadable(part, setup.spec.preprocessing)]
    if not unreadable:
        return ""
    counted = f"{len(unreadable):,} of {sum(map(len, parts)):,} images cannot be read"
    reasons = list_some(unreadable, "; ")
    if setup.recipe.data.on_unreadable == "stop":
        raise RunError(f"{counted}: {reasons}; set data.on_unreadable to skip to leave such images out")
    return f"{counted} and are left out: {reasons}"


def _initial_thresholds(recipe: Recipe, data: Data) -> tuple[float, ...]:
    threshold = 0.5 if recipe.thresholds == "tuned" else recipe.thresholds
    return (threshold,) * len(data.labels)


def _check_optimization(recipe: Recipe, data: Data, classifier: Classifier) -> None:
    """Try the loss, the optimizers and the schedules, to find errors before a run is created."""
    settings = recipe.train
    create_loss(settings, data)
    monitor = monitored_metric(settings, data.task)
    on_gpu = settings.device != "cpu" and torch.cuda.is_available()
    steps = math.ceil(count_training_batches(len(data.train), settings.batch_size) / settings.accumulate)
    # From the last phase to the first, whose frozen weights are those that training starts with.
    for phase in reversed(settings.all_phases()):
        freeze(classifier, phase.trainable)
        check_optimizer(settings.optimizer, phase.lr, torch.device("cuda" if on_gpu else "cpu"))
        optimizer = create_optimizer(settings.optimizer, phase.lr, classifier)
        if settings.schedule:
            total_steps = phase.epochs * steps
            check_schedule(settings.schedule, optimizer, epochs=phase.epochs, total_steps=total_steps, monitor=monitor)


def _check_augmentation(augmentation: A.Compose, split: Split, spec: ModelSpec, *, skip: bool) -> None:
    """Apply the augmentation to the first image that can be read; if failures are skipped, until one works."""
    failure = None
    for index, image in enumerate(split.images[:100]):
        try:
            pixels = decode(image, spec.preprocessing.colour, revision=spec.preprocessing.revision)
        except InvalidImageError:
            continue
        try:
            check_augmentation(augmentation, pixels, spec.preprocessing)
            return
        except RecipeError as exc:
            failure = failure or RecipeError(f"{split.image_name(index)}: {exc}")
            if not skip:
                break
    if failure:
        raise failure


def _check_input_size(settings: ModelSettings, classifier: Classifier, spec: ModelSpec) -> None:
    """Run the network on a batch of two images."""
    try:
        _run_once(classifier, spec)
    # Networks of timm raise errors of any kind for a size that does not fit.
    except Exception as exc:
        height, width = spec.preprocessing.height, spec.preprocessing.width
        hint = "set preprocessing to another size"
        if _takes_img_size(settings, spec):
            hint = f"set model.options: {{img_size: [{height}, {width}]}}"
        reason = one_line(exc).rstrip(".") or type(exc).__name__
        raise RecipeError(f"model: cannot process images of {height}x{width}: {reason}; {hint}") from exc
    finally:
        classifier.train()


def _run_once(classifier: Classifier, spec: ModelSpec) -> None:
    with torch.no_grad():
        classifier.eval()(torch.zeros((2, *spec.preprocessing.shape), dtype=torch.uint8))


def _takes_img_size(settings: ModelSettings, spec: ModelSpec) -> bool:
    """Whether the network can process the images if it is built for their size."""
    if "img_size" in settings.options:
        return False
    size = [spec.preprocessing.height, spec.preprocessing.width]
    sized = settings.model_copy(update={"options": {**settings.options, "img_size": size}})
    try:
        _run_once(build_classifier(sized, spec, initial_weights=False), spec)
    except Exception:
        return False
    return True
