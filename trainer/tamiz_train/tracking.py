"""MLflow: parameters, metrics by epoch, and what the run made."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

from tamiz.errors import RecipeError

from .recipe import Recipe
from .run import Run


class Tracker:
    """One MLflow run, or nothing where the recipe's ``tracking.uri`` is null."""

    def __init__(self, logger: MLFlowLogger | None) -> None:
        self.logger = logger

    @classmethod
    @contextmanager
    def start(cls, recipe: Recipe, run_name: str) -> Iterator[Tracker]:
        """Open a run in MLflow; it ends as FINISHED, or as FAILED where the block raises.

        Raises:
            RecipeError: the tracking store cannot be used.
        """
        if recipe.tracking.uri is None:
            yield cls(None)
            return
        # MLflow tells of every step of setting up its database; its import sets its own level.
        import mlflow  # noqa: F401

        for talkative in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
            logging.getLogger(talkative).setLevel(logging.ERROR)
        experiment = recipe.tracking.experiment or recipe.name
        try:
            logger = MLFlowLogger(experiment, run_name=run_name, tracking_uri=recipe.tracking.uri)
            logger.log_hyperparams(recipe.model_dump(mode="json"))
        except Exception as exc:
            # MLflow raises its own error, SQLAlchemy's or the network's.
            first = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
            raise RecipeError(f"tracking.uri: {recipe.tracking.uri} cannot be used: {first}") from exc
        try:
            yield cls(logger)
        except BaseException:
            logger.finalize("failed")
            raise
        logger.finalize("success")

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run."""
        return self.logger.run_id if self.logger else None

    def finish(self, run: Run, figures: dict[str, dict[str, float]]) -> None:
        """Log the final figures and the run's files."""
        if self.logger is None:
            return
        final: dict[str, Any] = {
            f"best/{split}_{name}": value for split, metrics in figures.items() for name, value in metrics.items()
        }
        self.logger.log_metrics(final)
        for name in ("recipe.yaml", "spec.json", "metrics.json", "model.safetensors"):
            self.logger.experiment.log_artifact(self.run_id, str(run.path / name))
