"""Checkpoints: the weights of the best epochs, and the state from which an interrupted run continues.

::

    <run>/checkpoints/
        last.ckpt           the complete state after the last completed epoch
        best-1.ckpt         the weights of the best epoch of phase 1; best-2.ckpt of phase 2, and so on
        epoch-005.ckpt      the weights after epoch 5, if train.checkpoint_every asks for it
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from tamiz.errors import RunError, one_line

from .classifier import Classifier
from .history import History


def last_checkpoint(folder: Path) -> Path:
    """The path of the checkpoint that an interrupted run continues from."""
    return folder / "last.ckpt"


def best_checkpoint(folder: Path, phase: int) -> Path:
    """The path of the checkpoint of the best epoch of a phase, counted from 1."""
    return folder / f"best-{phase}.ckpt"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        RunError: the file cannot be read, because it is missing, truncated or not a checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        # PyTorch raises errors of many classes.
        raise RunError(f"{path} cannot be read: {one_line(exc)}") from exc
    return state


def load_checkpoint_weights(classifier: Classifier, path: Path) -> None:
    """Load the weights of a checkpoint into a classifier.

    Raises:
        RunError: the file cannot be read.
    """
    prefix = "classifier."
    state = read_checkpoint(path)["state_dict"]
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    classifier.load_state_dict(weights)


class Checkpoints(Checkpoint):
    """Saves the checkpoints after each epoch.

    It is a `Checkpoint`, because Lightning calls those after all other callbacks. The history decides which epoch is
    the best, so that this is also right for a run that was moved while it was interrupted.

    Args:
        folder: the folder of the checkpoints.
        every: the interval, in epochs, at which weights are saved in addition; None saves none.
        save_weights_only: whether the checkpoints other than last.ckpt hold only the weights.
        history: the history of the run.
    """

    def __init__(self, folder: Path, every: int | None, save_weights_only: bool, history: History) -> None:
        self.folder = folder
        self.every = every
        self.save_weights_only = save_weights_only
        self.history = history

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the checkpoints of the epoch that ended."""
        latest = self.history.epochs[-1]
        epoch, phase = latest["epoch"], latest["phase"]
        if self.history.best(phase) is latest:
            trainer.save_checkpoint(best_checkpoint(self.folder, phase), weights_only=self.save_weights_only)
        if self.every is not None and epoch % self.every == 0:
            trainer.save_checkpoint(self.folder / f"epoch-{epoch:03}.ckpt", weights_only=self.save_weights_only)
        # Saved last: if the run is interrupted before this, the epoch is repeated.
        trainer.save_checkpoint(last_checkpoint(self.folder))
