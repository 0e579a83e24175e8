"""Schemas of the training routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..schemas import Body, ClassPerformance, Reply

Count = Annotated[int, Field(ge=1, le=1_000_000)]
State = Literal["queued", "running", "completed", "failed", "cancelled"]


class TrainingData(Body):
    """The images of a job.

    Attributes:
        image_paths: paths of the image files, absolute or relative to the data folder of the gateway.
        labels: for each image the index of its label in ``class_names``.
        class_names: the labels.
    """

    image_paths: Annotated[list[Annotated[str, Field(min_length=1, max_length=4_000)]], Field(min_length=2)]
    labels: list[Annotated[int, Field(ge=0)]]
    class_names: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=2)]

    @model_validator(mode="after")
    def _fit_together(self) -> TrainingData:
        if len(self.labels) != len(self.image_paths):
            raise ValueError(f"{len(self.image_paths)} image_paths and {len(self.labels)} labels; give as many of both")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("class_names: each name must be another one")
        if wrong := [label for label in self.labels if label >= len(self.class_names)]:
            raise ValueError(f"labels: {wrong[0]} is no index of class_names, which has {len(self.class_names)}")
        if unused := [name for index, name in enumerate(self.class_names) if index not in set(self.labels)]:
            raise ValueError(f"class_names: no image has the label {unused[0]!r}")
        return self


class TrainingConfig(Body):
    """How a job trains; what is missing is as the gateway is configured.

    Attributes:
        epochs: number of epochs.
        batch_size: number of images per batch.
        learning_rate: learning rate.
        validation_split: fraction of the images for validation.
    """

    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    validation_split: Annotated[float, Field(gt=0, lt=1)] | None = None


class TrainRequest(Body):
    """A training job.

    Attributes:
        training_data: the images.
        training_config: how to train.
    """

    training_data: TrainingData
    training_config: TrainingConfig = TrainingConfig()


class TrainingMetrics(Reply):
    """Figures of a finished job.

    Attributes:
        final_accuracy: accuracy of the best epoch on the test images.
        best_epoch: number of the best epoch, from 1.
        training_time: seconds that the job took.
        num_classes: number of labels.
        num_samples: number of images.
    """

    final_accuracy: float
    best_epoch: int
    training_time: float
    num_classes: int
    num_samples: int


class TrainingProgress(Reply):
    """How far a job is.

    Attributes:
        epoch: number of finished epochs.
        epochs: number of planned epochs.
    """

    epoch: int
    epochs: int


class TrainReply(Reply):
    """A training job.

    Attributes:
        success: whether the job has not failed, and was not cancelled.
        training_id: the job, such as ``train_20260131_120000``.
        status: ``queued``, ``running``, ``completed``, ``failed`` or ``cancelled``.
        created: when it was asked for, in ISO 8601.
        progress: how far it is; None before the first epoch is finished.
        log: the last lines of its log.
        error: why it failed.
        metrics: its figures, when it is completed.
        model_id: the version that it published, which is not promoted.
        model_path: path of the published graph.
        classification_report: figures of each label on the held-out images.
    """

    success: bool
    training_id: str
    status: State
    created: str
    progress: TrainingProgress | None = None
    log: list[str]
    error: str | None = None
    metrics: TrainingMetrics | None = None
    model_id: str | None = None
    model_path: str | None = None
    classification_report: dict[str, ClassPerformance] | None = None
