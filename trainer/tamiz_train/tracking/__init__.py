"""Tracking: logging the parameters, metrics and files of a run to MLflow and TensorBoard."""

from .mlflow import log_evaluation
from .tracker import Tracker

__all__ = ["Tracker", "log_evaluation"]
