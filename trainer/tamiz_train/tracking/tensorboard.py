"""TensorBoard: the metrics of each epoch as event files, for ``tensorboard --logdir runs``."""

from __future__ import annotations

from lightning.pytorch.loggers import TensorBoardLogger

from ..run import Run


def create_logger(run: Run) -> TensorBoardLogger:
    """A logger that writes to the folder ``tensorboard`` of a run."""
    return TensorBoardLogger(run.path, name="tensorboard", version="")
