"""ONNX classifiers of other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import make_spec, save_graph, write_grey_graph
from onnx import TensorProto, helper

from tamiz import ExportError, ModelSpec, Normalisation, Preprocessing
from tamiz.spec import SPEC_METADATA
from tamiz_release.adapted_graph import AdaptedGraph, find_spec
from tamiz_train.graph import find_problem

SPEC = ModelSpec(
    labels=("a", "b", "c"),
    preprocessing=Preprocessing(height=4, width=6),
    normalisation=Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
)
WEIGHT = np.random.default_rng(0).normal(size=(72, 3)).astype(np.float32)
IMAGES = np.random.default_rng(1).integers(0, 256, (11, 4, 6, 3), np.uint8)


def write_foreign(
    path: Path,
    *,
    shape: tuple = ("N", 3, 4, 6),
    kind: int = TensorProto.FLOAT,
    last: str = "Identity",
    extra: bool = False,
    spec: ModelSpec = SPEC,
) -> Path:
    """A linear classifier, with its spec beside it."""
    constants = {"weight": WEIGHT, "batch": np.array([0, 72])}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "batch"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node(last, ["logits"], ["scores"]),
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], 3])]
    if extra:
        outputs.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, [shape[0], 72]))
    save_graph(path, nodes, [helper.make_tensor_value_info("pixels", kind, shape)], outputs, constants)
    path.with_suffix(".spec.json").write_text(spec.to_json())
    return path


def expected(channels_first: bool = True, *, normalised: bool = True) -> np.ndarray:
    pixels = IMAGES.astype(np.float64)
    if normalised:
        pixels = (pixels / 255 - SPEC.normalisation.mean) / SPEC.normalisation.std
    flat = (pixels.transpose(0, 3, 1, 2) if channels_first else pixels).reshape(len(IMAGES), 72)
    exponents = np.exp(flat @ WEIGHT - (flat @ WEIGHT).max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("shape", "channels_first"),
    [(("N", 3, 4, 6), True), (("N", 3, "height", "width"), True), (("N", 4, 6, 3), False), (("N", "h", "w", 3), False)],
)
def test_channels_may_be_first_or_last(shape: tuple, channels_first: bool, tmp_path: Path) -> None:
    graph = AdaptedGraph(write_foreign(tmp_path / "model.onnx", shape=shape))
    np.testing.assert_allclose(graph.probabilities(IMAGES), expected(channels_first), atol=1e-5)


def test_logits_get_a_softmax_and_probabilities_stay_as_they_are(tmp_path: Path) -> None:
    logits = AdaptedGraph(write_foreign(tmp_path / "logits.onnx"))
    softmax = AdaptedGraph(write_foreign(tmp_path / "softmax.onnx", last="Softmax"))
    assert (logits.activation, softmax.activation) == ("softmax", "none")
    np.testing.assert_allclose(logits.probabilities(IMAGES), softmax.probabilities(IMAGES), atol=1e-6)
    assert find_problem(logits.probabilities(IMAGES), SPEC) is None


def test_logits_of_several_labels_get_a_sigmoid(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"task": "multilabel", "thresholds": (0.5, 0.5, 0.5)})
    logits = AdaptedGraph(write_foreign(tmp_path / "logits.onnx", spec=spec))
    sigmoid = AdaptedGraph(write_foreign(tmp_path / "sigmoid.onnx", spec=spec, last="Sigmoid"))
    assert (logits.activation, sigmoid.activation) == ("sigmoid", "none")
    np.testing.assert_allclose(logits.probabilities(IMAGES), sigmoid.probabilities(IMAGES), atol=1e-6)


def test_a_fixed_batch_size_is_filled(tmp_path: Path) -> None:
    graph = AdaptedGraph(write_foreign(tmp_path / "model.onnx", shape=(4, 3, 4, 6)))
    np.testing.assert_allclose(graph.probabilities(IMAGES), expected(), atol=1e-5)


def test_other_types_and_further_outputs_are_taken(tmp_path: Path) -> None:
    half = AdaptedGraph(write_foreign(tmp_path / "half.onnx", kind=TensorProto.FLOAT16))
    np.testing.assert_allclose(half.probabilities(IMAGES), expected(), atol=0.05)
    pixels = AdaptedGraph(write_foreign(tmp_path / "pixels.onnx", kind=TensorProto.UINT8))
    np.testing.assert_allclose(pixels.probabilities(IMAGES), expected(normalised=False), atol=1e-5)
    more = AdaptedGraph(write_foreign(tmp_path / "more.onnx", extra=True))
    np.testing.assert_allclose(more.probabilities(IMAGES), expected(), atol=1e-5)


def test_a_graph_that_tamiz_exported_needs_no_spec_beside_it(tmp_path: Path) -> None:
    spec = make_spec(["a", "b"])
    path = write_grey_graph(tmp_path / "model.onnx", spec)
    with pytest.raises(ExportError, match=r"write model.spec.json beside it, such as \{.*labels") as caught:
        find_spec(path)
    # The example in the message is a spec.
    text = str(caught.value)
    assert ModelSpec.from_json(text[text.index("{") :]).labels == ("cat", "dog")
    model = onnx.load(path)
    model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
    onnx.save(model, path)
    assert find_spec(path) == spec
    # As in a version of a repository.
    (tmp_path / "1").mkdir()
    path = write_grey_graph(tmp_path / "1" / "model.onnx", spec)
    (tmp_path / "1" / "spec.json").write_text(spec.to_json())
    assert AdaptedGraph(path).spec == spec


def test_a_graph_that_does_not_match_its_spec_is_an_export_error(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    grey = SPEC.model_dump() | {"preprocessing": {"height": 4, "width": 6, "colour": "L"}}
    grey["normalisation"] = {"mean": [0], "std": [1]}
    for changed, message in (
        (SPEC.model_copy(update={"labels": ("a", "b")}), r"2 labels and 8 images need one output \[8, 2\]"),
        (SPEC.model_copy(update={"preprocessing": Preprocessing(height=9, width=9)}), "does not match its spec"),
        (
            ModelSpec.model_validate(grey),
            r"must be \[batch, height, width, 1\] or \[batch, 1, height, width\]",
        ),
    ):
        path.with_suffix(".spec.json").write_text(changed.to_json())
        with pytest.raises(ExportError, match=message):
            AdaptedGraph(path)
    with pytest.raises(ExportError, match=r"its input is tensor\(int64\); use uint8 or float"):
        AdaptedGraph(write_foreign(tmp_path / "integers.onnx", kind=TensorProto.INT64))
    path.write_bytes(b"damaged")
    with pytest.raises(ExportError, match="not an ONNX file"):
        AdaptedGraph(path)
