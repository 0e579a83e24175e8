"""Tracking: parameters, metrics by epoch, and what the run made, in MLflow and TensorBoard."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from tamiz.errors import RecipeError
from tamiz.files import write_whole

from .distributed import Processes
from .recipe import Recipe
from .run import Run

ID_FILE = "mlflow_run_id"
"""In the run's folder from its beginning, so that a resumed run goes on in the same run of MLflow."""


class Tracker:
    """Where a run is told: any of MLflow and TensorBoard, or neither."""

    def __init__(self, mlflow: MLFlowLogger | None = None, tensorboard: TensorBoardLogger | None = None) -> None:
        self._mlflow = mlflow
        self.loggers: list[Logger] = [logger for logger in (mlflow, tensorboard) if logger is not None]

    @classmethod
    @contextmanager
    def start(cls, run: Run, group: Processes = Processes()) -> Iterator[Tracker]:
        """Open a run in MLflow; it ends as FINISHED, or as FAILED where the block raises.

        Raises:
            RecipeError: the tracking store cannot be used.
        """
        if not group.first:
            yield cls()
            return
        # As it is on disk, where a resumed run finds the same.
        recipe = run.recipe
        tensorboard = (
            TensorBoardLogger(run.path, name="tensorboard", version="") if recipe.tracking.tensorboard else None
        )
        if recipe.tracking.uri is None:
            yield cls(None, tensorboard)
            return
        logger = _open(recipe, run)
        try:
            logger.log_hyperparams(recipe.model_dump(mode="json"))
        except Exception as exc:
            raise _unusable(recipe, exc) from exc
        write_whole(run.path / ID_FILE, str(logger.run_id))
        try:
            yield cls(logger, tensorboard)
        except BaseException:
            logger.finalize("failed")
            raise
        logger.finalize("success")

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run."""
        return self._mlflow.run_id if self._mlflow else None

    def finish(self, run: Run, figures: dict[str, dict[str, float]]) -> None:
        """Log the final figures, the run's files, and the model where the recipe asks for it."""
        if self._mlflow is None:
            return
        final: dict[str, Any] = {
            f"best/{split}_{name}": value for split, metrics in figures.items() for name, value in metrics.items()
        }
        self._mlflow.log_metrics(final)
        for name in ("recipe.yaml", "spec.json", "metrics.json", "model.safetensors"):
            self._mlflow.experiment.log_artifact(self.run_id, str(run.path / name))
        if run.recipe.tracking.log_model:
            _log_model(run, str(self.run_id))


def log_evaluation(run: Run, metrics: dict[str, float], folder: Path) -> None:
    """Add figures and the files of a folder to the run of MLflow that a finished run has, if it has one.

    Args:
        run: the run.
        metrics: by the names that they get.
        folder: whose files are logged under its name.

    Raises:
        RecipeError: the tracking store cannot be used.
    """
    if run.recipe.tracking.uri is None or not (run.path / ID_FILE).is_file():
        return
    try:
        logger = _open(run.recipe, run)
        logger.log_metrics(metrics)
        logger.experiment.log_artifacts(logger.run_id, str(folder), folder.name)
    except Exception as exc:
        raise _unusable(run.recipe, exc) from exc


def _open(recipe: Recipe, run: Run) -> MLFlowLogger:
    # MLflow tells of every step of setting up its database; its import sets its own level.
    import mlflow  # noqa: F401

    for talkative in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    id_file = run.path / ID_FILE
    run_id = id_file.read_text(encoding="utf-8") if id_file.is_file() else None
    experiment = recipe.tracking.experiment or recipe.name
    try:
        return MLFlowLogger(experiment, run_name=run.path.name, tracking_uri=recipe.tracking.uri, run_id=run_id)
    except Exception as exc:
        raise _unusable(recipe, exc) from exc


def _unusable(recipe: Recipe, exc: Exception) -> RecipeError:
    # MLflow raises its own error, SQLAlchemy's or the network's.
    first = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
    return RecipeError(f"tracking.uri: {recipe.tracking.uri} cannot be used: {first}")


def _log_model(run: Run, run_id: str) -> None:
    """As the ONNX graph that is served: MLflow's flavour of PyTorch pickles."""
    import mlflow.onnx
    import onnx

    from .export import export

    exported = export(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(run.recipe.tracking.uri)
        with mlflow.start_run(run_id=run_id):
            mlflow.onnx.log_model(onnx.load(exported.path), name="model")
