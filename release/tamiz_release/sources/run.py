"""A run as a source: its network is evaluated in PyTorch."""

from __future__ import annotations

from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation
from tamiz_train.inference import evaluate
from tamiz_train.run import Run
from tamiz_train.weights import load_classifier

from .base import ModelSource


class RunSource(ModelSource):
    """The network of a finished run.

    Args:
        run: the run.

    Raises:
        RunError: the weights cannot be loaded.
    """

    def __init__(self, run: Run) -> None:
        self.title = f"{run.recipe.name}, {run.path.name}"
        self.spec = run.spec
        self.run = run
        self._classifier = load_classifier(run)

    def evaluate(self, split: Split) -> Evaluation:
        """Evaluate the network in PyTorch, in float32."""
        return evaluate(self._classifier, split, self.spec)
