"""Export: writing the network of a run as the ONNX graph that every server runs, and comparing the two.

See `tamiz_train.graph` for the input and the output of the graph.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from tamiz.errors import ExportError, first_line
from tamiz.files import staged, write_whole
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA, ModelSpec

from .classifier import Classifier
from .parity import Parity, compare, parity_images
from .run import Run
from .weights import load_classifier


@dataclass(frozen=True)
class Exported:
    """An exported graph.

    Attributes:
        path: path of the ONNX file, in the folder of the run.
        parity: the comparison with the trained network.
    """

    path: Path
    parity: Parity


def export(run: Run) -> Exported:
    """Export the network of a run to ``model.onnx`` in its folder, and compare the two on validation images.

    Raises:
        ExportError: the network cannot be exported, or the graph computes something else; then no graph is written.
        RunError: the weights cannot be loaded; or the run keeps no validation images, and its data cannot be found.
        OutputError: the folder of the run cannot be written.
    """
    classifier = load_classifier(run)
    path = run.path / "model.onnx"
    with staged(path) as part:
        write_graph(classifier, run.spec, part)
        parity = compare(classifier, part, run.spec, parity_images(run))
        if not parity.holds:
            raise ExportError(f"{run.path}: the exported graph does not compute what the network computes: {parity}")
    write_whole(run.path / "parity.json", json.dumps(parity.to_dict(), indent=2))
    return Exported(path, parity)


def write_graph(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
    """Write a network as an ONNX graph, with the spec in its metadata.

    Args:
        classifier: the network.
        spec: spec of the network.
        path: path of the ONNX file.

    Raises:
        ExportError: the network cannot be exported.
    """
    # A batch of one image would become a constant of the graph.
    example = torch.zeros((2, *spec.preprocessing.shape), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The exporter warns of deprecated functions that it calls itself.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _WithProbabilities(classifier).eval(),
                (example,),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as exc:
        # The exporter has no common error class: each operator raises its own exceptions.
        raise ExportError(f"the network cannot be exported to ONNX: {first_line(exc)}") from exc
    assert program is not None
    model = program.model_proto
    model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
    onnx.save(model, path)


class _WithProbabilities(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier.probabilities(self.classifier(image))
