"""The history of a run."""

from __future__ import annotations

from typing import Any

import pytest

from tamiz_train.history import History


def history(*epochs: dict[str, Any]) -> History:
    history = History(len(epochs), images=10, monitor="validation_accuracy", on_progress=lambda line: None)
    history.load_state_dict(
        {"epochs": [{"epoch": number, "phase": 1} | epoch for number, epoch in enumerate(epochs, 1)]}
    )
    return history


def test_the_best_epoch_has_the_highest_metric() -> None:
    measured = history(
        {"validation_accuracy": 0.5, "validation_loss": 0.1},
        {"validation_accuracy": 0.9, "validation_loss": 0.3},
        {"validation_accuracy": 0.8, "validation_loss": 0.2},
    )
    assert measured.best()["epoch"] == 2


def test_of_epochs_with_an_equal_metric_the_one_with_the_lowest_validation_loss_is_the_best() -> None:
    measured = history(
        {"validation_accuracy": 0.9, "validation_loss": 0.3},
        {"validation_accuracy": 0.9, "validation_loss": 0.1},
        {"validation_accuracy": 0.9, "validation_loss": 0.2},
    )
    assert measured.best()["epoch"] == 2


@pytest.mark.parametrize("metrics", [{}, {"validation_accuracy": float("nan"), "validation_loss": 0.1}])
def test_an_epoch_without_a_metric_is_not_the_best(metrics: dict[str, float]) -> None:
    assert history(metrics, {"validation_accuracy": 0.1, "validation_loss": 9.0}).best()["epoch"] == 2
