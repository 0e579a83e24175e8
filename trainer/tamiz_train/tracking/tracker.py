"""The tracker of a training run: MLflow, TensorBoard, both, or neither, as the recipe configures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import Logger

from ..distributed import Processes
from ..run import Run
from .mlflow import MlflowRun
from .tensorboard import create_logger


class Tracker:
    """Logs a training run; `start` creates one.

    Args:
        mlflow: the run in MLflow, when it is tracked there.
        tensorboard: the logger of TensorBoard, when it is used.

    Attributes:
        loggers: the loggers to which Lightning sends the metrics of each epoch.
    """

    def __init__(self, mlflow: MlflowRun | None = None, tensorboard: Logger | None = None) -> None:
        self._mlflow = mlflow
        loggers = (mlflow.logger if mlflow else None, tensorboard)
        self.loggers: list[Logger] = [logger for logger in loggers if logger is not None]

    @classmethod
    @contextmanager
    def start(cls, run: Run, processes: Processes = Processes()) -> Iterator[Tracker]:
        """Start tracking a run, or continue when the run is resumed.

        Of several processes that train together, only the first one logs. At the end of the block the run in MLflow
        gets the status FINISHED, or FAILED when the block raises.

        Args:
            run: the run.
            processes: the processes that train together.

        Raises:
            TrackingError: the MLflow server or its store cannot be used.
        """
        # As saved in the run's folder, which is what a resumed run reads.
        settings = run.recipe.tracking
        if not processes.first:
            yield cls()
            return
        tensorboard = create_logger(run) if settings.tensorboard else None
        if settings.uri is None:
            yield cls(None, tensorboard)
            return
        with MlflowRun.start(run) as mlflow:
            yield cls(mlflow, tensorboard)

    @property
    def run_id(self) -> str | None:
        """Id of the run in MLflow; None when the run is not tracked there."""
        return self._mlflow.run_id if self._mlflow else None

    def finish(self, run: Run, figures: Mapping[str, Mapping[str, float]]) -> None:
        """Log the metrics of the best epoch and the files of the run.

        Args:
            run: the finished run.
            figures: for each split, its metrics; logged as ``best/<split>_<metric>``.

        Raises:
            TrackingError: the MLflow server or its store cannot be used.
        """
        if self._mlflow is None:
            return
        self._mlflow.log_metrics(
            {f"best/{split}_{name}": value for split, metrics in figures.items() for name, value in metrics.items()}
        )
        files = ("recipe.yaml", "spec.json", "metrics.json", "model.safetensors")
        self._mlflow.log_files([run.path / name for name in files])

    def log_model(self, graph: Path) -> None:
        """Log the exported model.

        Args:
            graph: path of the ONNX file.

        Raises:
            TrackingError: the MLflow server or its store cannot be used.
        """
        if self._mlflow is not None:
            self._mlflow.log_model(graph)
