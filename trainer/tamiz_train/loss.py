"""The loss function of training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tamiz.errors import RecipeError

from .data import Data
from .recipe import TrainSettings


def create_loss(settings: TrainSettings, data: Data) -> nn.CrossEntropyLoss | nn.BCEWithLogitsLoss:
    """Create the loss: cross-entropy, or the binary cross-entropy of each label if the task is multilabel.

    With ``class_weights: balanced`` a class with n of N images, among K classes, has the weight N / (K n); multilabel:
    the positives of a label have the weight (N - n) / n. A class without images counts as if it had one.

    Args:
        settings: the section ``train`` of the recipe.
        data: the data set, which defines the task and the frequencies of the labels.

    Raises:
        RecipeError: the recipe sets label smoothing, but the task is multilabel.
    """
    counts = data.train.counts(len(data.labels)).astype(np.float64)
    if data.task == "multilabel":
        if settings.label_smoothing:
            raise RecipeError("train.label_smoothing: only multiclass data can have it, and this data is multilabel")
        positives = np.maximum(counts, 1)
        return nn.BCEWithLogitsLoss(pos_weight=_weights(settings, (len(data.train) - counts) / positives))
    balanced = len(data.train) / (len(counts) * np.maximum(counts, 1))
    return nn.CrossEntropyLoss(weight=_weights(settings, balanced), label_smoothing=settings.label_smoothing)


def _weights(settings: TrainSettings, balanced: npt.NDArray[np.float64]) -> Tensor | None:
    return torch.from_numpy(balanced).float() if settings.class_weights == "balanced" else None
