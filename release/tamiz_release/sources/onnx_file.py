"""An ONNX file as a source: of any tool, or of a published version."""

from __future__ import annotations

from pathlib import Path

from tamiz.preprocessing import Pixels
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation, evaluate_function
from tamiz_train.metrics import Probabilities

from ..adaptation import Adaptation, Description, examine, open_foreign
from .base import ModelSource


class OnnxSource(ModelSource):
    """An ONNX classifier, run as it is; what an adaptation would add to the graph is computed outside of it.

    Args:
        path: path of the file.
        title: what the model is. Default: the path.
        description: the labels of the model, and what its graph does not say. Default: what is in the file or beside
            it; see `examine`.
        adaptation: what `examine` found out; None examines the file.
        trusted: whether Tamiz wrote the file; otherwise it is examined in a process with limits.

    Raises:
        UsageError: there is no such file.
        ExportError: the file cannot be used.
        SpecError: the spec of the model cannot be read.

    Attributes:
        adaptation: how the graph is adapted to the standard form.
    """

    adaptation: Adaptation

    def __init__(
        self,
        path: Path,
        title: str | None = None,
        description: Description | None = None,
        *,
        adaptation: Adaptation | None = None,
        trusted: bool = False,
    ) -> None:
        self.adaptation = adaptation or examine(path, description, confined=not trusted)
        self.spec = self.adaptation.spec
        self._graph = open_foreign(path)
        applied, name = self.adaptation.activation, title or str(path)
        self.title = name if applied == "none" else f"{name} (its outputs are logits; {applied} is applied)"

    def evaluate(self, split: Split) -> Evaluation:
        """Run the graph on the CPU."""

        def compute(pixels: Pixels) -> Probabilities:
            return self._graph.probabilities(pixels, self.adaptation)

        return evaluate_function(compute, split, self.spec)
