"""Export: writing the network of a run as the ONNX graph that every server runs, and comparing the two.

See `tamiz_train.graph` for the input and the output of the graph.
"""

from __future__ import annotations

import io
import logging
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import onnx
import timm.layers
import torch
from rich.text import Text
from torch import Tensor, nn

from tamiz.errors import ExportError, first_line
from tamiz.files import staged, write_whole
from tamiz.json_text import to_json
from tamiz.preprocessing import Pixels
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
    write_whole(run.path / "parity.json", to_json(parity.to_dict(), indent=2))
    return Exported(path, parity)


def check_export(classifier: Classifier, spec: ModelSpec, images: Pixels) -> Parity:
    """Export a network to a temporary file, to find out before training whether it can be published.

    Args:
        classifier: the network, which need not be trained; it is set to evaluation mode.
        spec: spec of the network.
        images: the images on which the graph is compared with the network, uint8 ``[images, height, width, channels]``.

    Returns:
        the comparison. The predicted labels of an untrained network are close to ties, so they may differ.

    Raises:
        ExportError: the network cannot be exported, or the graph computes something else.
    """
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder:
        path = Path(folder) / "model.onnx"
        write_graph(classifier, spec, path)
        parity = compare(classifier, path, spec, images)
    if parity.largest_difference > parity.tolerance:
        raise ExportError(f"model: the exported graph does not compute what the network computes: {parity}")
    return parity


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
        # The exporter prints the graph when it fails, and warns of deprecated functions that it calls itself.
        with _without_fused_attention(classifier), redirect_stderr(io.StringIO()), warnings.catch_warnings():
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
        raise ExportError(
            f"the network cannot be exported to ONNX: {_reason(exc)}; set model.name to another network"
        ) from exc
    assert program is not None
    model = program.model_proto
    model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
    onnx.save(model, path)


@contextmanager
def _without_fused_attention(network: nn.Module) -> Iterator[None]:
    """Compute attention from plain operators, because the exporter converts fused attention only for four dimensions.

    Most of timm's layers read timm's setting when they are built, others each time they run. The results differ in the
    last bits.
    """
    fused = [module for module in network.modules() if getattr(module, "fused_attn", False) is True]
    setting = timm.layers.use_fused_attn()
    timm.layers.set_fused_attn(False)
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        timm.layers.set_fused_attn(setting)
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]


def _reason(exc: BaseException) -> str:
    """The first line of the innermost error; those around it tell in colour how to report a fault of the exporter."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return textwrap.shorten(Text.from_ansi(first_line(exc)).plain, 300)


class _WithProbabilities(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier.probabilities(self.classifier(image))
