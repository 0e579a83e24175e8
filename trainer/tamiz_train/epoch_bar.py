"""The progress within an epoch: a bar on a terminal for its training images, and then one for its validation images."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from tamiz.image_bar import ImageBar

from .data import Data
from .data.loader import Batch
from .distributed import Processes
from .history import History


class EpochBar(Callback):
    """Shows the finished images of the current epoch, their rate, and the remaining time of its training or validation.

    Args:
        history: the history of the run, which counts the epochs.
        data: the data set.
        processes: the processes that train together; each is assumed to be as far as the first one, which shows the
            bar.
    """

    def __init__(self, history: History, data: Data, processes: Processes) -> None:
        self.history = history
        self.data = data
        self.processes = processes
        self._bar: ImageBar | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar of the training images."""
        self._show("", len(self.data.train))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the images of a batch."""
        self._count(batch)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar of the validation images instead."""
        self._show(", validation", len(self.data.validation))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the images of a batch."""
        self._count(batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bar, because the line of the epoch follows."""
        self._remove()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the bar, because an error message follows."""
        self._remove()

    def _show(self, part: str, images: int) -> None:
        self._remove()
        self._bar = ImageBar(f"epoch {len(self.history.epochs) + 1}/{self.history.planned_epochs}{part}", images)
        self._bar.start()

    def _count(self, batch: Batch) -> None:
        if self._bar is not None:
            self._bar.advance((len(batch.indices) + len(batch.unreadable)) * self.processes.count)

    def _remove(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
