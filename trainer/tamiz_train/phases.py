"""The phases of a run.

Each is one fit of a Lightning trainer; an interrupted run continues in the phase of its last checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from tamiz.errors import RecipeError, RunError

from .augmentation import create_augmentation
from .checkpoints import Checkpoints, best_checkpoint, last_checkpoint, load_checkpoint_weights, read_checkpoint
from .classifier import Classifier
from .data import Data
from .data.loader import Shard, create_loader, set_epoch
from .distributed import Processes
from .epoch_bar import EpochBar
from .history import History
from .lightning_module import ClassifierModule
from .model_input import model_input
from .recipe import Recipe, TrainSettings
from .resumption import lower_rate
from .training_errors import DivergedError, training_errors
from .validation import lower_is_better, monitored_metric


@dataclass(frozen=True)
class FitResult:
    """The result of all phases. The weights are in the classifier.

    Attributes:
        epochs: the metrics of each epoch; see `History.epochs`.
        best_epoch: the number of the epoch, from 1, whose weights are kept.
        unreadable: one message for each image that could not be read, in any of the processes.
    """

    epochs: list[dict[str, Any]]
    best_epoch: int
    unreadable: set[str]


def fit(
    classifier: Classifier,
    recipe: Recipe,
    data: Data,
    run: Path,
    *,
    loggers: Sequence[Logger],
    processes: Processes,
    on_progress: Callable[[str], None],
) -> FitResult:
    """Train a classifier in the phases of a recipe.

    Continues from the last checkpoint in the run's folder, if there is one.

    Args:
        classifier: the classifier; it gets the weights of the best epoch.
        recipe: the recipe.
        data: the data set.
        run: the folder of the run.
        loggers: Lightning's loggers, which log the metrics of each epoch.
        processes: the processes that train together.
        on_progress: called with one line of text at the start of each phase and after each epoch.

    Raises:
        RecipeError: this machine cannot do what the recipe asks for.
        RunError: training failed.
        KeyboardInterrupt: the process received SIGINT or SIGTERM.
    """
    folder = run / "checkpoints"
    last = last_checkpoint(folder)
    checkpoint = read_checkpoint(last) if last.is_file() else None
    first_phase = 0 if checkpoint is None else int(checkpoint["phase"])
    phases = recipe.train.all_phases()
    monitor = monitored_metric(recipe.train, data.task)
    history = History(sum(phase.epochs for phase in phases), len(data.train), monitor, on_progress)
    unreadable: set[str] = set()
    for index, phase in enumerate(phases[first_phase:], start=first_phase):
        resumed = checkpoint if index == first_phase else None
        if index > 0 and resumed is None:
            # Checkpoints count phases from 1, so `index` is the previous phase.
            load_checkpoint_weights(classifier, best_checkpoint(folder, index))
        module = ClassifierModule(classifier, recipe, data, phase, index)
        if len(phases) > 1:
            on_progress(f"phase {index + 1} of {len(phases)}: {classifier.parameter_summary()}")
        callbacks = [history, *_create_callbacks(recipe.train, folder, history)]
        if processes.first:
            callbacks.append(EpochBar(history, data, processes))
        training, validation = _create_loaders(recipe, data, processes, phase_index=index)
        if resumed is not None:
            # Set here, because Lightning would set the epoch only after the workers have started to load images.
            # Checkpoints count epochs from 0.
            set_epoch(training, resumed["epoch"] + 1)
        with training_errors(run):
            trainer = _create_trainer(module, recipe.train, callbacks, loggers, processes, run)
            try:
                trainer.fit(
                    module, training, validation, ckpt_path=last if resumed is not None else None, weights_only=True
                )
            except DivergedError as exc:
                command = lower_rate(run, recipe.train, index)
                raise RunError(f"training diverged in {run}: {exc} {_what_to_do(history)}: {command}") from exc
        classifier.cpu()
        unreadable |= module.unreadable
    best = history.best()
    load_checkpoint_weights(classifier, best_checkpoint(folder, best["phase"]))
    return FitResult(history.epochs, int(best["epoch"]), processes.union(unreadable))


def _what_to_do(history: History) -> str:
    done = len(history.epochs)
    if not done:
        return "in epoch 1; start again with a lower learning rate"
    best = history.best()["epoch"]
    return (
        f"in epoch {done + 1}; epoch {best}, the best, is kept; continue after epoch {done} with a lower learning rate"
    )


def _create_callbacks(settings: TrainSettings, folder: Path, history: History) -> list[Callback]:
    # With EMA, a weights-only checkpoint holds the weights of the last step instead of the average; only a complete one
    # holds the average.
    save_weights_only = settings.ema_decay is None
    callbacks: list[Callback] = [Checkpoints(folder, settings.checkpoint_every, save_weights_only, history)]
    if settings.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    if settings.early_stopping_patience is not None:
        mode = "min" if lower_is_better(history.monitor) else "max"
        callbacks.append(_EarlyStopping(history.monitor, patience=settings.early_stopping_patience, mode=mode))
    return callbacks


class _EarlyStopping(EarlyStopping):
    """Early stopping that also works if the run is resumed after its last epoch.

    Lightning's version trains one more epoch.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _create_loaders(
    recipe: Recipe, data: Data, processes: Processes, *, phase_index: int
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    settings = recipe.train
    if settings.batch_size % processes.count:
        raise RecipeError(
            f"train.batch_size: a batch of {settings.batch_size} images cannot be divided among {processes.count} "
            f"processes; use a multiple of {processes.count}"
        )
    shared: dict[str, Any] = {
        "batch_size": settings.batch_size // processes.count,
        "num_workers": settings.num_workers,
        # Each phase gets a different order and different augmentation.
        "seed": settings.seed + 1000 * phase_index,
        "shard": Shard(processes.rank, processes.count),
    }
    preprocessing, _ = model_input(recipe)
    augmentation = create_augmentation(recipe.augmentation, settings.seed, preprocessing)
    training = create_loader(
        data.train, preprocessing, training=True, shuffle=settings.shuffle, augmentation=augmentation, **shared
    )
    return training, create_loader(data.validation, preprocessing, **shared)


def _create_trainer(
    module: ClassifierModule,
    settings: TrainSettings,
    callbacks: list[Callback],
    loggers: Sequence[Logger],
    processes: Processes,
    run: Path,
) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return L.Trainer(
        accelerator=settings.device,
        devices=processes.local_count,
        num_nodes=processes.count // processes.local_count,
        strategy="ddp" if processes.count > 1 else "auto",
        use_distributed_sampler=False,
        precision=settings.precision,
        max_epochs=module.phase.epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        deterministic=settings.deterministic,
        callbacks=callbacks,
        logger=list(loggers) or False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=run,
    )
