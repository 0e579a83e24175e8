"""Schemas of the replies, from which the OpenAPI document is made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Reply(BaseModel):
    """Base of the replies."""

    # Names such as model_id are those of the published contract.
    model_config = ConfigDict(protected_namespaces=())


class Body(Reply):
    """Base of the bodies of requests, in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class ProblemReply(Reply):
    """An error (RFC 9457).

    Attributes:
        type: always ``about:blank``.
        title: the status in words.
        status: the status.
        detail: what is wrong and what to do.
        error: class of the error, for programs.
    """

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    error: str


class FileResult(Reply):
    """The label of one file, or why it has none.

    Attributes:
        filename: name of the file.
        predicted_class: the most probable label.
        predicted_class_id: index of the label among the model's labels.
        confidence: its probability.
        all_probabilities: the probability of every label, if asked for.
        labels: the labels at or above their thresholds, of a model with several labels per image.
        error: why the file has no label.
    """

    filename: str
    predicted_class: str | None = None
    predicted_class_id: int | None = None
    confidence: float | None = None
    all_probabilities: dict[str, float] | None = None
    labels: list[str] | None = None
    error: str | None = None


class ClassifyReply(Reply):
    """The labels of the files.

    Attributes:
        success: whether at least one file got a label.
        processing_time: seconds that the request took.
        results: one result for each file, in their order.
    """

    success: bool
    processing_time: float
    results: list[FileResult]


class AvailableModel(Reply):
    """A version of the gateway's model.

    Attributes:
        model_id: the model and the version, such as ``digits/2``.
        created_date: when the version was published, in ISO 8601.
        num_classes: number of labels.
        accuracy: accuracy on the test images; None if it was not measured.
        status: ``active`` for the live version, otherwise ``archived``.
    """

    model_id: str
    created_date: str | None
    num_classes: int
    accuracy: float | None
    status: Literal["active", "archived"]


class ModelsReply(Reply):
    """The versions of the gateway's model.

    Attributes:
        available_models: the versions, the oldest first.
        current_model: the live version; None if no version is live.
    """

    available_models: list[AvailableModel]
    current_model: str | None


class SwitchRequest(Body):
    """The version to promote.

    Attributes:
        model_id: the model and the version, as ``GET /models`` names them.
    """

    model_id: Annotated[str, Field(max_length=300)]


class SwitchReply(Reply):
    """The version that is live now.

    Attributes:
        success: always true.
        current_model: the live version.
        previous_model: the version that was live before; None if none was.
    """

    success: bool
    current_model: str
    previous_model: str | None


class PerformanceMetrics(Reply):
    """Figures over all labels; None where one was not measured.

    Attributes:
        accuracy: fraction of the images whose label is right.
        precision: mean of the precision of the labels.
        recall: mean of the recall of the labels.
        f1_score: mean of the F1 of the labels.
    """

    accuracy: float | None
    precision: float | None
    recall: float | None
    f1_score: float | None


class ClassPerformance(Reply):
    """Figures of one label.

    Attributes:
        precision: fraction of the images with this predicted label that have it.
        recall: fraction of the images that have this label for which it is predicted.
        f1_score: harmonic mean of precision and recall.
        support: number of images that have this label.
    """

    precision: float
    recall: float
    f1_score: float
    support: int


class PerformanceReply(Reply):
    """The figures of a version, as the gate measured them on held-out images before it was published.

    Attributes:
        model_id: the model and the version.
        performance_metrics: figures over all labels.
        per_class_metrics: figures of each label; None if the version was published without them.
        confusion_matrix: number of images by true label (rows) and predicted label (columns), in the order of
            ``class_names``; None if the version was published without it, or an image may have several labels.
        class_names: the labels, in the order of the model's outputs.
    """

    model_id: str
    performance_metrics: PerformanceMetrics
    per_class_metrics: dict[str, ClassPerformance] | None
    confusion_matrix: list[list[int]] | None
    class_names: list[str]


class Figures(Reply):
    """What was predicted in a window of time.

    Attributes:
        predictions: number of predictions.
        average_inference_time_s: mean seconds of the request to the model server that an image was part of.
        average_confidence: mean probability of the predicted labels.
        low_confidence_share: fraction of the predictions whose probability is below 0.8.
        throughput: predictions a second.
    """

    predictions: int
    average_inference_time_s: float | None
    average_confidence: float | None
    low_confidence_share: float | None
    throughput: float


class VersionFigures(Figures):
    """The same of one version.

    Attributes:
        model: name of the model.
        version: number of the version.
    """

    model: str
    version: int


class WindowFigures(Figures):
    """The figures of all versions together, and of each.

    Attributes:
        versions: the figures of each version that predicted something.
    """

    versions: list[VersionFigures]


class MonitorReply(Reply):
    """The performance monitor.

    Attributes:
        uptime_s: seconds since the gateway was started.
        last_minute: the last minute.
        last_hour: the last hour.
        since_start: the time since the gateway was started.
    """

    uptime_s: float
    last_minute: Annotated[WindowFigures, Field(alias="1m")]
    last_hour: Annotated[WindowFigures, Field(alias="1h")]
    since_start: Annotated[WindowFigures, Field(alias="start")]


class ScoredLabel(Reply):
    """A label with its probability.

    Attributes:
        label: the label.
        score: its probability.
    """

    label: str
    score: float


class PredictionReply(Reply):
    """The labels of one image, or why it has none.

    Attributes:
        position: index of the image in the request.
        name: name of the image, if the caller gave one.
        model: name of the model.
        version: version that answered.
        label: the most probable label.
        index: index of the label among the model's labels.
        score: its probability.
        top: the ``top_k`` most probable labels, best first.
        labels: the labels at or above their thresholds, of a model with several labels per image.
        error: why the image has no label.
    """

    position: int = 0
    name: str | None = None
    model: str | None = None
    version: int | None = None
    label: str | None = None
    index: int | None = None
    score: float | None = None
    top: list[ScoredLabel] | None = None
    labels: list[ScoredLabel] | None = None
    error: ProblemReply | None = None


class PredictionsReply(Reply):
    """The labels of the images.

    Attributes:
        predictions: one for each image, in their order.
    """

    predictions: list[PredictionReply]


class HealthReply(Reply):
    """Whether the gateway works.

    Attributes:
        status: ``ok``.
    """

    status: str
