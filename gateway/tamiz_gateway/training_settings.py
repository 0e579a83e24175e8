"""Settings of the training jobs of a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tamiz.document import Document

Count = Annotated[int, Field(ge=1, le=1_000_000)]


class TrainingSettings(Document):
    """Settings of the training jobs of a gateway. What is None is as the recipe says.

    Attributes:
        data_dir: folder below which the images of a request must be; None refuses all training.
        jobs_dir: folder of the jobs: their requests, logs, runs and results.
        recipe: name of a shipped recipe, or path of one, that jobs begin from; its data are replaced.
        architecture: name of the network.
        epochs: number of epochs, unless a request names it.
        batch_size: number of images per batch, unless a request names it.
        learning_rate: learning rate, unless a request names it.
        validation_fraction: fraction of the images for validation, unless a request names it.
        checkpoint_every: interval, in epochs, at which weights are saved in addition to those of the best epoch.
        device: device to train on.
        num_threads: number of threads that PyTorch uses on the CPU.
        mixed_precision: whether to train in mixed precision.
        tracking_uri: URI of MLflow's tracking store.
        experiment: name of the MLflow experiment.
        max_jobs: the most jobs that run or wait at a time.
    """

    data_dir: Path | None = None
    jobs_dir: Path = Path("training")
    recipe: Annotated[str, Field(min_length=1)] = "documents"
    architecture: str | None = None
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    checkpoint_every: Count | None = None
    device: Literal["auto", "cpu", "cuda"] | None = None
    num_threads: Count | None = None
    mixed_precision: bool | None = None
    tracking_uri: str | None = None
    experiment: str | None = None
    max_jobs: Count = 16
