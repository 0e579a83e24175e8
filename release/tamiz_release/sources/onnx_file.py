"""An ONNX file as a source: of any tool, or of a published version."""

from __future__ import annotations

from pathlib import Path

from tamiz.errors import UsageError
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation, evaluate_function

from ..adapted_graph import AdaptedGraph
from .base import ModelSource


class OnnxSource(ModelSource):
    """An ONNX classifier.

    Args:
        path: path of the file.
        title: what the model is. Default: the path.

    Raises:
        UsageError: there is no such file.
        ExportError: the file cannot be used.
        SpecError: the spec of the model cannot be read.
    """

    def __init__(self, path: Path, title: str | None = None) -> None:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        self._graph = AdaptedGraph(path)
        self.spec = self._graph.spec
        applied, name = self._graph.activation, title or str(path)
        self.title = name if applied == "none" else f"{name} (its outputs are logits; {applied} is applied)"

    def evaluate(self, split: Split) -> Evaluation:
        """Run the graph on the CPU."""
        return evaluate_function(self._graph.probabilities, split, self.spec)
