"""MLflow: the run in a tracking server or a store that belongs to a training run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from lightning.pytorch.loggers import MLFlowLogger

from tamiz.errors import TrackingError, first_line
from tamiz.files import write_whole

from ..run import Run

ID_FILE = "mlflow_run_id"
"""File in the folder of a run with its id in MLflow; written first, so that a resumed run continues the same one."""


class MlflowRun:
    """A run in MLflow; `start` opens the one of a training run, `find` that of a finished run.

    Every method that talks to MLflow raises `TrackingError` when the server or its store cannot be used.

    Args:
        run: the training run; its recipe names the tracking server or the store.

    Attributes:
        logger: the logger of Lightning.
    """

    def __init__(self, run: Run) -> None:
        # MLflow sets its log level when it is imported, and then logs each step of creating its database.
        import mlflow  # noqa: F401

        for name in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._uri = cast(str, run.recipe.tracking.uri)
        id_file = run.path / ID_FILE
        with _tracking_errors(self._uri):
            self.logger = MLFlowLogger(
                run.recipe.tracking.experiment or run.recipe.name,
                run_name=run.path.name,
                tracking_uri=self._uri,
                run_id=id_file.read_text(encoding="utf-8") if id_file.is_file() else None,
            )

    @classmethod
    @contextmanager
    def start(cls, run: Run) -> Iterator[MlflowRun]:
        """Start the run in MLflow, or continue it when the training run is resumed, and log the recipe.

        At the end of the block the run gets the status FINISHED, or FAILED when the block raises.
        """
        opened = cls(run)
        if not (run.path / ID_FILE).is_file():
            # Once, because MLflow lets no parameter change, and a resumed run may have another learning rate.
            with _tracking_errors(opened._uri):
                opened.logger.log_hyperparams(run.recipe.model_dump(mode="json"))
            write_whole(run.path / ID_FILE, opened.run_id)
        try:
            yield opened
        except BaseException:
            opened.logger.finalize("failed")
            raise
        opened.logger.finalize("success")

    @classmethod
    def find(cls, run: Run) -> MlflowRun | None:
        """The run in MLflow of a finished training run; None when it was not tracked there."""
        tracked = run.recipe.tracking.uri is not None and (run.path / ID_FILE).is_file()
        return cls(run) if tracked else None

    @property
    def run_id(self) -> str:
        """Id of the run in MLflow."""
        with _tracking_errors(self._uri):
            return str(self.logger.run_id)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log metrics by name."""
        with _tracking_errors(self._uri):
            self.logger.log_metrics(metrics)

    def log_files(self, files: Sequence[Path], folder: str | None = None) -> None:
        """Log files, or the files of folders.

        Args:
            files: paths of files and folders.
            folder: name of the folder in MLflow that they are stored in.
        """
        with _tracking_errors(self._uri):
            for path in files:
                log = self.logger.experiment.log_artifacts if path.is_dir() else self.logger.experiment.log_artifact
                log(self.run_id, str(path), folder)

    def log_model(self, graph: Path) -> None:
        """Log a model, as an ONNX graph: MLflow's format for PyTorch models would be a pickle.

        Args:
            graph: path of the ONNX file.
        """
        import mlflow.onnx
        import onnx

        with _tracking_errors(self._uri), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlflow.set_tracking_uri(self._uri)
            with mlflow.start_run(run_id=self.run_id):
                mlflow.onnx.log_model(onnx.load(graph), name="model")


def log_evaluation(run: Run, metrics: Mapping[str, float], folder: Path) -> None:
    """Add an evaluation to the run in MLflow of a finished training run; does nothing when it has none.

    Args:
        run: the training run.
        metrics: metrics by the names under which they are logged.
        folder: a folder whose files are logged, under its name.

    Raises:
        TrackingError: the MLflow server or its store cannot be used.
    """
    tracked = MlflowRun.find(run)
    if tracked is not None:
        tracked.log_metrics(metrics)
        tracked.log_files([folder], folder.name)


@contextmanager
def _tracking_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except TrackingError:
        raise
    except Exception as exc:
        # MLflow raises its own errors as well as SQLAlchemy's and network errors.
        raise TrackingError(f"tracking.uri: {uri} cannot be used: {first_line(exc)}") from exc
