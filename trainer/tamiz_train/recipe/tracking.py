"""The section ``tracking``: where a run is logged, in addition to its folder."""

from __future__ import annotations

from .section import Section


class TrackingSettings(Section):
    """Logging of a run to MLflow and TensorBoard.

    Attributes:
        uri: The URI of MLflow's tracking store; null logs nothing to MLflow. Default: ``sqlite:///mlflow.db``.
        experiment: The name of the MLflow experiment. Default: null, which uses the name of the recipe.
        log_model: Whether to log the trained model to MLflow, as the ONNX graph that is served. Default: false.
        tensorboard: Whether to write TensorBoard event files into the run's folder. Default: false.
    """

    uri: str | None = "sqlite:///mlflow.db"
    experiment: str | None = None
    log_model: bool = False
    tensorboard: bool = False
