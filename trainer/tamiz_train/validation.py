"""The metrics that are computed on the validation images at the end of each epoch."""

from __future__ import annotations

from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision, MultilabelF1Score

from tamiz.errors import RecipeError

from .data import Data, Task
from .recipe import TrainSettings

MONITORS: dict[Task, tuple[str, ...]] = {"multiclass": ("accuracy", "loss"), "multilabel": ("loss", "f1", "map")}
"""The values of ``train.monitor`` that each task allows; the first is the default."""


def monitored_metric(settings: TrainSettings, task: Task) -> str:
    """The logged name of the metric that selects the best epoch, such as ``validation_accuracy``.

    Raises:
        RecipeError: the task does not have the metric that the recipe names.
    """
    known = MONITORS[task]
    if settings.monitor is not None and settings.monitor not in known:
        raise RecipeError(f"train.monitor: {settings.monitor} does not fit {task} data; use {' or '.join(known)}")
    return f"validation_{settings.monitor or known[0]}"


def lower_is_better(metric: str) -> bool:
    """Whether a lower value of a logged metric is better, as for a loss."""
    return metric.endswith("loss")


def validation_metrics(data: Data) -> dict[str, Metric]:
    """The metrics of a task besides the loss: accuracy; or macro F1 at threshold 0.5 and mean average precision."""
    labels = len(data.labels)
    if data.task == "multiclass":
        return {"accuracy": MulticlassAccuracy(labels, average="micro")}
    return {"f1": MultilabelF1Score(labels), "map": MultilabelAveragePrecision(labels)}
