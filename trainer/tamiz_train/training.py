"""Training: from a recipe to a finished run folder."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from tamiz.errors import InvalidImageError, RecipeError, RunError
from tamiz.preprocessing import decode
from tamiz.spec import ModelSpec

from .augmentation import A, check_augmentation, create_augmentation
from .data import Data, Split, create_loader, load_data
from .evaluation import evaluate
from .models import Classifier, check_name, create_model
from .module import ClassifierModule, create_optimizer, create_schedule
from .recipe import Recipe
from .run import Run
from .tracking import Tracker

Say = Callable[[str], None]


def train(recipe: Recipe, say: Say = lambda line: None) -> Run:
    """Train by a recipe, keep the best epoch, and measure it on validation and test.

    Args:
        recipe: all that the run depends on.
        say: gets a line of text for a person at each step.

    Returns:
        the finished run.

    Raises:
        RecipeError: the recipe names something that is not there; found before anything is trained.
        RunError: training failed, or its folder cannot be written.
    """
    L.seed_everything(recipe.train.seed, workers=True, verbose=False)
    check_name(recipe.model)
    data = load_data(recipe.data, recipe.train.seed)
    spec = ModelSpec(labels=data.labels, preprocessing=recipe.preprocessing, normalisation=recipe.normalisation)
    classifier = create_model(recipe.model, spec)
    # Made only to find what is wrong with them before a run folder is; Lightning has the module make its own.
    optimizer = create_optimizer(recipe.train.optimizer, classifier)
    if recipe.train.schedule:
        create_schedule(recipe.train.schedule, optimizer, total_steps=100)
    augmentation = create_augmentation(recipe.augmentation, recipe.train.seed) if recipe.augmentation else None
    _try_out(classifier, augmentation, data.train, spec)
    parameters = sum(weight.numel() for weight in classifier.parameters())
    say(
        f"{recipe.name}: {recipe.model.name} ({parameters:,} parameters), {len(data.labels)} labels, "
        f"{len(data.train):,} + {len(data.validation):,} + {len(data.test):,} images to train, validate and test"
    )

    run = Run.begin(recipe)
    module = ClassifierModule(classifier, recipe, len(data.labels))
    history = _History(say)
    with Tracker.start(recipe, run.path.name) as tracker:
        best = _fit(module, recipe, data, run.path, augmentation, [history, *_progress()], tracker)
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
        classifier = module.classifier.cpu()
        broken = set(module.broken)
        figures = {}
        for split in (data.validation, data.test):
            measured = evaluate(classifier, split, spec, num_workers=recipe.train.num_workers)
            broken.update(measured.broken)
            figures[split.name] = measured.metrics
        metrics = {
            **figures,
            "best_epoch": history.best_epoch,
            "epochs": history.epochs,
            "parameters": parameters,
            "images": {split.name: len(split) for split in (data.train, data.validation, data.test)},
            "broken_images": sorted(broken),
            "mlflow_run_id": tracker.run_id,
        }
        run.finish(classifier, spec, metrics)
        tracker.finish(run, figures)
    for message in sorted(broken):
        say(f"left out: {message}")
    if broken:
        say(f"{len(broken)} images could not be read and were left out")
    say(f"best epoch {history.best_epoch}: test accuracy {figures['test'].get('accuracy', float('nan')):.4f}")
    return run


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


def _fit(
    module: ClassifierModule,
    recipe: Recipe,
    data: Data,
    folder: Path,
    augmentation: A.Compose | None,
    callbacks: list[Callback],
    tracker: Tracker,
) -> Path:
    settings = recipe.train

    def loader(split: Split, **options: Any) -> Any:
        return create_loader(
            split,
            recipe.preprocessing,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            seed=settings.seed,
            **options,
        )

    checkpoint = ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        monitor="validation_accuracy",
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )
    with warnings.catch_warnings():
        # Advice of Lightning's on workers and log intervals; the recipe has decided these.
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        try:
            trainer = L.Trainer(
                accelerator=settings.device,
                devices=1,
                precision=settings.precision,
                max_epochs=settings.epochs,
                callbacks=[checkpoint, *callbacks],
                logger=tracker.logger or False,
                enable_progress_bar=any(isinstance(callback, TQDMProgressBar) for callback in callbacks),
                enable_model_summary=False,
                num_sanity_val_steps=0,
                default_root_dir=folder,
            )
            trainer.fit(
                module,
                loader(data.train, augmentation=augmentation, shuffle=settings.shuffle),
                loader(data.validation),
            )
        except MisconfigurationException as exc:
            # A device that is not there, or a validation without one readable image.
            raise RecipeError(f"train: {' '.join(str(exc).split())}") from exc
        except (RuntimeError, ValueError, OSError) as exc:
            # Memory, a disk that is full, a batch that a layer cannot take: the run cannot go on.
            raise RunError(f"training failed in {folder}: {' '.join(str(exc).split())}") from exc
    return Path(checkpoint.best_model_path)


def _progress() -> list[Callback]:
    return [TQDMProgressBar()] if sys.stderr.isatty() else []


class _History(Callback):
    """Keeps the figures of each epoch, and says them."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.epochs: list[dict[str, float]] = []
        self._began = 0.0

    @property
    def best_epoch(self) -> int:
        best = max(self.epochs, key=lambda epoch: epoch["validation_accuracy"])
        return int(best["epoch"])

    def on_train_epoch_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
        seconds = time.perf_counter() - self._began
        epoch = {"epoch": trainer.current_epoch + 1, **figures, "seconds": round(seconds, 3)}
        self.epochs.append(epoch)
        self.say(
            f"epoch {epoch['epoch']}/{trainer.max_epochs}: train loss {figures.get('train_loss', float('nan')):.4f}, "
            f"validation loss {figures.get('validation_loss', float('nan')):.4f}, "
            f"validation accuracy {figures.get('validation_accuracy', float('nan')):.4f}, {seconds:.1f} s"
        )
