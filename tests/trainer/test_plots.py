"""Plots of evaluations and contact sheets."""

from __future__ import annotations

import cv2
import numpy as np
from graphs import make_spec

from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation
from tamiz_train.plots import contact_sheet, plot_confusion_matrix, plot_history


def read_png(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def test_a_contact_sheet_takes_images_of_any_size_and_places_without_an_image() -> None:
    images = [None, *(np.zeros(shape, np.uint8) for shape in ((5, 9), (200, 30, 3), (28, 28, 1)))]
    assert read_png(contact_sheet(images, [["none"], ["a"], ["b $x$", "c"], ["c" * 99]])).shape[1] > 4 * 100


def test_the_confusion_matrix_of_a_multilabel_model_is_plotted_by_label() -> None:
    spec = make_spec(["a", "b"], task="multilabel", thresholds=(0.5, 0.5))
    targets = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    split = Split("test", np.zeros((3, 28, 28), np.uint8), targets)
    evaluation = Evaluation(split, spec, np.array([[1, 1], [0, 1], [0, 0]], np.float32), np.arange(3), ())
    assert read_png(plot_confusion_matrix(evaluation)).shape[1] == 800


def test_the_training_is_plotted_also_where_a_value_is_missing() -> None:
    epochs = [
        {"epoch": 1, "train_loss": 1.0, "validation_loss": None, "lr": 0.1},
        {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.75, "lr": 0.05},
        {"epoch": 3, "train_loss": float("nan"), "validation_loss": 0.5},
    ]
    assert read_png(plot_history(epochs, best_epoch=3)).shape[1] == 900
    assert read_png(plot_history(epochs[:1], best_epoch=1)).shape[1] == 900
