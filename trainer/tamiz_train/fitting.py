"""Fitting: the phases of a run on Lightning's trainer, with checkpoints from which it can go on.

::

    <run>/checkpoints/
        last.ckpt           all that an interrupted run needs, of its last completed epoch
        best-1.ckpt         weights of the best epoch of phase 1, and so on
        epoch-005.ckpt      weights of that epoch, where train.checkpoint_every asks for it
"""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EMAWeightAveraging,
    TQDMProgressBar,
)
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from tamiz.errors import RecipeError, RunError, TamizError

from .augmentation import create_augmentation
from .data import Batch, Data, create_loader
from .data.loader import Share
from .distributed import Processes
from .models import Classifier
from .module import ClassifierModule, monitored
from .recipe import Recipe
from .settings import TrainSettings
from .tracking import Tracker

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """What fitting gave beside the weights, which are in the classifier.

    Attributes:
        epochs: the figures of each epoch, with its number from 1 and its phase.
        best_epoch: whose weights are kept.
        broken: messages of the images that could not be read.
    """

    epochs: list[dict[str, Any]]
    best_epoch: int
    broken: set[str]


def fit(
    classifier: Classifier, recipe: Recipe, data: Data, run: Path, tracker: Tracker, processes: Processes, say: Say
) -> Fitted:
    """Train a network in the recipe's phases, from the last completed epoch that is found in the run's folder.

    Args:
        classifier: gets the weights of the best epoch.
        recipe: how to train it.
        data: on what.
        run: the run's folder.
        tracker: gets the figures of each epoch.
        processes: that train together.
        say: gets a line for each epoch.

    Raises:
        RecipeError: what the recipe asks for is not to be had on this machine.
        RunError: training failed.
        KeyboardInterrupt: the process was told to end, by SIGINT or SIGTERM.
    """
    checkpoints = run / "checkpoints"
    last = checkpoints / "last.ckpt"
    monitor = monitored(recipe.train, data.task)
    phases = recipe.train.in_phases()
    interrupted = _load(last) if last.is_file() else None
    resumed = None if interrupted is None else interrupted["phase"]
    history = _History(sum(phase.epochs for phase in phases), len(data.train), monitor, say)
    broken: set[str] = set()
    for index, phase in enumerate(phases):
        if resumed is not None and index < resumed:
            continue
        if index > 0 and index != resumed:
            load_best(classifier, checkpoints / f"best-{index}.ckpt")
        module = ClassifierModule(classifier, recipe, data, phase, index)
        if len(phases) > 1:
            say(f"phase {index + 1} of {len(phases)}: {parameters(classifier)}")
        callbacks: list[Callback] = [history, *_callbacks(recipe.train, checkpoints, history)]
        going_on = interrupted is not None and index == resumed
        training, validation = _loaders(module, recipe, data, processes)
        if going_on:
            # Before workers begin to load; Lightning sets it when they have.
            training.sampler.set_epoch(interrupted["epoch"] + 1)
        trainer = _create_trainer(module, recipe, callbacks, tracker, processes, run)
        with errors_of_training(run):
            trainer.fit(module, training, validation, ckpt_path=last if going_on else None, weights_only=True)
        classifier.cpu()
        broken |= module.broken
    best = history.best()
    load_best(classifier, checkpoints / f"best-{best['phase']}.ckpt")
    return Fitted(history.epochs, int(best["epoch"]), broken)


def parameters(classifier: Classifier) -> str:
    """How many weights there are, and how many of them are trained."""
    total = sum(weight.numel() for weight in classifier.parameters())
    trainable = sum(weight.numel() for weight in classifier.parameters() if weight.requires_grad)
    return f"{total:,} parameters, {trainable:,} trainable, {total - trainable:,} frozen"


def load_best(classifier: Classifier, checkpoint: Path) -> None:
    """Put the weights of a checkpoint into a network."""
    prefix = "classifier."
    state: dict[str, Tensor] = _load(checkpoint)["state_dict"]
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    classifier.load_state_dict(weights)


def _load(checkpoint: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as exc:
        # Whatever torch makes of a file that is cut short or not its own.
        raise RunError(f"{checkpoint} cannot be read: {' '.join(str(exc).split())}") from exc
    return state


def _callbacks(settings: TrainSettings, checkpoints: Path, history: _History) -> list[Callback]:
    # Where weights are averaged, only a whole checkpoint has the average in the place of the last step's.
    weights_only = settings.ema_decay is None
    callbacks: list[Callback] = [_Checkpoints(checkpoints, settings.checkpoint_every, weights_only, history)]
    if settings.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    if settings.early_stopping_patience is not None:
        mode = "min" if history.monitor.endswith("loss") else "max"
        callbacks.append(_EarlyStopping(history.monitor, patience=settings.early_stopping_patience, mode=mode))
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar())
    return callbacks


def _loaders(
    module: ClassifierModule, recipe: Recipe, data: Data, processes: Processes
) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    settings = recipe.train
    if settings.batch_size % processes.count:
        raise RecipeError(
            f"train.batch_size: {settings.batch_size} images a step cannot be shared by {processes.count} processes"
        )
    common: dict[str, Any] = {
        "batch_size": settings.batch_size // processes.count,
        "num_workers": settings.num_workers,
        # Another order and other augmentation in each phase.
        "seed": settings.seed + 1000 * module.index,
        "share": Share(processes.rank, processes.count),
    }
    augmentation = create_augmentation(recipe.augmentation, settings.seed)
    training = create_loader(
        data.train, recipe.preprocessing, training=True, shuffle=settings.shuffle, augmentation=augmentation, **common
    )
    return training, create_loader(data.validation, recipe.preprocessing, **common)


def _create_trainer(
    module: ClassifierModule,
    recipe: Recipe,
    callbacks: list[Callback],
    tracker: Tracker,
    processes: Processes,
    run: Path,
) -> L.Trainer:
    settings = recipe.train
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with errors_of_training(run):
        return L.Trainer(
            accelerator=settings.device,
            devices=processes.local,
            num_nodes=processes.count // processes.local,
            strategy="ddp" if processes.count > 1 else "auto",
            use_distributed_sampler=False,
            precision=settings.precision,
            max_epochs=module.phase.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.gradient_clip,
            deterministic=settings.deterministic,
            callbacks=callbacks,
            logger=tracker.loggers or False,
            enable_progress_bar=any(isinstance(callback, TQDMProgressBar) for callback in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=run,
        )


@contextmanager
def errors_of_training(run: Path) -> Iterator[None]:
    """Tell what training fails with in one line."""
    with warnings.catch_warnings():
        # Advice of Lightning's on workers and log intervals; the recipe has decided these.
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        # A label without an image in the validation split has no average precision.
        warnings.filterwarnings("ignore", message="Average precision score for one or more classes was `nan`")
        warnings.filterwarnings("ignore", message="No positive samples found in target")
        try:
            yield
        except MisconfigurationException as exc:
            # A device that is not there.
            raise RecipeError(f"train: {_line(exc)}") from exc
        except TamizError:
            raise
        except Exception as exc:
            # Memory, a disk that is full, a batch that a layer or an augmentation cannot take, a tracking server that
            # went away: the run cannot go on.
            raise RunError(f"training failed in {run}: {_line(exc)}") from exc
        except SystemExit as exc:
            # What Lightning makes of Ctrl-C, and of SIGTERM with a status of 0.
            raise KeyboardInterrupt from exc


def _line(exc: Exception) -> str:
    text = str(exc).strip() or type(exc).__name__
    # Of a worker process the message is its whole traceback, of which the last line says what it was.
    return text.splitlines()[-1].strip() if "Traceback" in text else " ".join(text.split())


class _EarlyStopping(EarlyStopping):
    """Lightning's, which would train one epoch more where it is resumed after the last one."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _Checkpoints(Checkpoint):
    """Saves the best epoch of each phase, and what an interrupted run goes on from.

    As a Checkpoint it is called when all other callbacks have been. Which epoch is the best is for `_History` to say
    alone, also in a run that was moved since it was interrupted.
    """

    def __init__(self, folder: Path, every: int | None, weights_only: bool, history: _History) -> None:
        self.folder = folder
        self.every = every
        self.weights_only = weights_only
        self.history = history

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        latest = self.history.epochs[-1]
        epoch, phase = latest["epoch"], latest["phase"]
        if self.history.best(phase) is latest:
            trainer.save_checkpoint(self.folder / f"best-{phase}.ckpt", weights_only=self.weights_only)
        if self.every is not None and epoch % self.every == 0:
            trainer.save_checkpoint(self.folder / f"epoch-{epoch:03}.ckpt", weights_only=self.weights_only)
        # Last: after an interruption before it, the epoch is repeated.
        trainer.save_checkpoint(self.folder / "last.ckpt")


class _History(Callback):
    """Keeps the figures of each epoch, also over an interruption, and says them."""

    def __init__(self, planned: int, images: int, monitor: str, say: Say) -> None:
        self.planned = planned
        self.images = images
        self.monitor = monitor
        self.say = say
        self.epochs: list[dict[str, Any]] = []
        self._began = self._trained = 0.0

    def best(self, phase: int | None = None) -> dict[str, Any]:
        """The best epoch, the first of equals; of one phase where that is named."""
        sign = 1 if self.monitor.endswith("loss") else -1

        def badness(epoch: dict[str, Any]) -> float:
            figure: float = sign * epoch.get(self.monitor, math.nan)
            return math.inf if math.isnan(figure) else figure

        return min((epoch for epoch in self.epochs if phase in (None, epoch["phase"])), key=badness)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained = time.perf_counter()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._log_step(pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ClassifierModule)
        self._log_step(pl_module)
        figures = {name: value.item() for name, value in trainer.callback_metrics.items() if name != "step"}
        if self.monitor not in figures:
            raise RecipeError(f"train: no validation image could be read, so there is no {self.monitor} to choose by")
        seconds = time.perf_counter() - self._began
        number = len(self.epochs) + 1
        self.epochs.append(
            {
                "epoch": number,
                "phase": pl_module.index + 1,
                **figures,
                "lr": pl_module.lr,
                "seconds": round(seconds, 3),
                "images_per_s": round(self.images / (self._trained - self._began), 1),
            }
        )
        told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in sorted(figures.items()))
        self.say(f"epoch {number}/{self.planned}: {told}, {seconds:.1f} s")

    def _log_step(self, module: L.LightningModule) -> None:
        # Lightning's trackers take this as the place of the figures: the epoch of the run, not the step of a phase.
        module.log("step", float(len(self.epochs) + 1))
