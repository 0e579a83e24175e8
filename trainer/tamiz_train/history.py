"""The history of a run: the metrics of each epoch, which also select the best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from tamiz.errors import RecipeError

from .lightning_module import ClassifierModule
from .training_errors import DivergedError
from .validation import lower_is_better


class History(Callback):
    """Records and reports the metrics of each epoch; it is part of the checkpoints, so a resumed run continues it.

    Args:
        planned_epochs: the number of epochs in all phases.
        images: the number of training images.
        monitor: the logged name of the metric that selects the best epoch.
        on_progress: called with one line of text after each epoch.

    Attributes:
        epochs: for each epoch its number from 1 (``epoch``), its phase from 1 (``phase``), the metrics, the learning
            rate (``lr``), the duration (``seconds``) and the training throughput (``images_per_s``).
    """

    def __init__(self, planned_epochs: int, images: int, monitor: str, on_progress: Callable[[str], None]) -> None:
        self.planned_epochs = planned_epochs
        self.images = images
        self.monitor = monitor
        self.on_progress = on_progress
        self.epochs: list[dict[str, Any]] = []
        self._started = self._trained = 0.0

    def best(self, phase: int | None = None) -> dict[str, Any]:
        """The best epoch; of several with an equal metric, the one with the lowest validation loss.

        A metric such as the accuracy on a few hundred images often has the same value in several epochs.

        Args:
            phase: the phase, from 1, to choose from; None chooses from all epochs.
        """
        sign = 1 if lower_is_better(self.monitor) else -1

        def badness(epoch: dict[str, Any]) -> tuple[float, float]:
            metric: float = sign * epoch.get(self.monitor, math.nan)
            return math.inf if math.isnan(metric) else metric, epoch.get("validation_loss", math.inf)

        return min((epoch for epoch in self.epochs if phase in (None, epoch["phase"])), key=badness)

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint holds."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.epochs = state_dict["epochs"]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of the training part of the epoch."""
        self._trained = time.perf_counter()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the step at which the validation metrics are logged."""
        self._log_step(pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record and report the epoch.

        Raises:
            DivergedError: a loss is NaN or infinite; then the epoch is not recorded, so it is never the best.
            RecipeError: no validation image could be read.
        """
        assert isinstance(pl_module, ClassifierModule)
        self._log_step(pl_module)
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name != "step"}
        if self.monitor not in metrics:
            raise RecipeError(
                f"train: no validation image could be read, so there is no {self.monitor} to select the best epoch by"
            )
        for name in ("train_loss", "validation_loss"):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise DivergedError(
                    f"the {'training' if name == 'train_loss' else 'validation'} loss is {metrics[name]}"
                )
        seconds = time.perf_counter() - self._started
        number = len(self.epochs) + 1
        self.epochs.append(
            {
                "epoch": number,
                "phase": pl_module.phase_index + 1,
                **metrics,
                "lr": pl_module.lr,
                "seconds": round(seconds, 3),
                "images_per_s": round(self.images / (self._trained - self._started), 1),
            }
        )
        text = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in sorted(metrics.items()))
        self.on_progress(f"epoch {number}/{self.planned_epochs}: {text}, {seconds:.1f} s")

    def _log_step(self, module: L.LightningModule) -> None:
        # Lightning's loggers log at the value of "step": the epoch of the run, instead of the step of the phase.
        module.log("step", float(len(self.epochs) + 1))
