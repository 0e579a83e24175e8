"""What all sources of models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tamiz.spec import ModelSpec
    from tamiz_train.data import Split
    from tamiz_train.evaluation import Evaluation
    from tamiz_train.run import Run

TIMM = "timm:"
"""What the name of a pretrained model of timm begins with."""


class ModelSource(ABC):
    """A model that can be evaluated.

    Attributes:
        title: what the model is, for people.
        spec: labels, preprocessing and thresholds of the model.
        run: the run, if the model is one.
    """

    title: str
    spec: ModelSpec
    run: Run | None = None

    @abstractmethod
    def evaluate(self, split: Split) -> Evaluation:
        """Evaluate the model on a split that has its labels."""

    @property
    def fitted_images(self) -> frozenset[bytes] | None:
        """Content hashes of the images that the model was fitted to; None if they are unknown."""
        return None if self.run is None else self.run.fitted_images
