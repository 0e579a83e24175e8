"""What is found out about a foreign graph, and which graphs are refused, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from foreign_graphs import SPEC, make_model, weights, write_foreign
from graphs import make_spec, write_grey_graph
from onnx import TensorProto, helper

from tamiz import ExportError, ModelSpec, Preprocessing, UsageError
from tamiz.spec import SPEC_METADATA
from tamiz_release.adaptation import Description, InputSettings, examine

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def describe(labels: int = 3, **settings: Any) -> Description:
    settings.setdefault("normalisation", "imagenet")
    return Description(labels=[f"label {index}" for index in range(labels)], settings=InputSettings(**settings))


def refuse(path: Path, message: str, description: Description | None = None) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        examine(path, description or describe(), confined=False)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 800


def save(path: Path, nodes: list, outputs: list[tuple[str, int, list]], **constants: np.ndarray) -> Path:
    """A graph of images [N, 3, 4, 6]."""
    inputs = [helper.make_tensor_value_info("pixels", FLOAT, ["N", 3, 4, 6])]
    described = [helper.make_tensor_value_info(*output) for output in outputs]
    onnx.save(make_model(nodes, inputs, described, constants), path)
    return path


def test_a_detector_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["pixels", "places"], ["boxes"]),
        helper.make_node("ReduceMax", ["boxes", "last"], ["scores"], keepdims=0),
    ]
    constants = {"places": np.array([0, 18, 4]), "last": np.array([2])}
    boxes, scores = ("boxes", FLOAT, ["N", 18, 4]), ("scores", FLOAT, ["N", 18])
    path = save(tmp_path / "two.onnx", nodes, [boxes, scores], **constants)
    refuse(path, r"no classifier: it has 2 outputs \(boxes float32 \[2, 18, 4\], scores float32 \[2, 18\]\)")
    path = save(tmp_path / "one.onnx", nodes[:1], [boxes], places=constants["places"])
    refuse(path, r"its output boxes is float32 \[2, 18, 4\], as of a detector, with values for each box")


def test_a_segmenter_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.onnx", [helper.make_node("Relu", ["pixels"], ["maps"])], [("maps", FLOAT, None)])
    refuse(path, r"its output maps is float32 \[2, 3, 4, 6\], as of a segmenter, with values for each pixel")


def test_the_index_of_a_label_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("ArgMax", ["flat"], ["index"], axis=1, keepdims=0),
    ]
    path = save(tmp_path / "x.onnx", nodes, [("index", INT64, ["N"])])
    refuse(path, r"its output index is int64 \[2\]; a classifier returns one number for each label, so export its log")


def test_a_graph_that_does_not_take_images_alone_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["c"])]
    value = helper.make_tensor_value_info
    for inputs, message in (
        ([value("a", FLOAT, ["N", 3, 4, 6]), value("b", FLOAT, [1])], r"it has 2 inputs \(a, b\); it must take images"),
        ([value("a", FLOAT, ["N", 16])], r"its input a is \[N, 16\]; images are \[batch, height, width, channels\]"),
        ([value("a", INT64, ["N", 3, 4, 6])], "its input a is int64; use uint8, float16, float32, float64"),
        (
            [value("a", FLOAT, ["N", 5, 4, 6])],
            r"it takes a \[N, 5, 4, 6\]; an image must be \[batch, height, width, 1",
        ),
    ):
        path = tmp_path / "x.onnx"
        onnx.save(make_model(nodes, inputs, [value("c", inputs[0].type.tensor_type.elem_type, None)], {}), path)
        refuse(path, message)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        (
            ("N", 3, 4, 6),
            {"normalisation": None},
            "its input is float32, so images must be normalised; say in the",
        ),
        (("N", 3, "h", "w"), {}, "it takes images of any size; say in the preprocessing file: preprocessing: 224"),
        (("N", 3, 4, 6), {"preprocessing": 8}, r"takes images of 4×6 \(height×width\), and the description says 8×8"),
        (("N", 3, 4, 3), {}, r"may have its channels first or last; say in the preprocessing file: layout: NCHW"),
        (("N", "c", "h", "w"), {}, "may have its channels first or last"),
        (("N", 3, 4, 6), {"preprocessing": {"colour": "L"}}, r"an image must be \[batch, height, width, 1\]"),
        (("N", 3, 4, 6), {"normalisation": {"mean": [0.5], "std": [1]}}, "1 means and 1 standard .*3 channels"),
        (("N", 3, 4, 6), {"activation": "none"}, "activation: none, but its outputs are not probabilities"),
        (("N", 3, 4, 6), {"activation": "sigmoid"}, "activation: sigmoid: the results are not probabilities"),
        (("N", 3, 4, 6), {"background": 3}, "background: 3 is no output: the graph has 3, from 0 to 2"),
    ],
)
def test_a_description_that_does_not_fit_or_is_not_enough_is_refused(
    shape: tuple, settings: dict, message: str, tmp_path: Path
) -> None:
    refuse(write_foreign(tmp_path / "x.onnx", shape=shape), message, describe(**settings))


def test_labels_must_fit_the_outputs(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "x.onnx")
    refuse(path, r"2 labels and 1 image need one output \[1, 2\], and the graph returns \[1, 3\]; if one", describe(2))
    refuse(path, "3 outputs without the background need 2 labels, not 5", describe(5, background=0))


def test_outputs_that_could_be_of_several_labels_are_not_guessed(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "x.onnx", last="Sigmoid")
    refuse(path, "and do not sum to 1, so they can be probabilities of several labels, or logits; say in the prep")


def test_outputs_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    refuse(write_foreign(tmp_path / "x.onnx", factor=np.nan), "48 of 48? outputs for test images are NaN|24 of 24")


def test_real_images_are_used_beside_random_ones(tmp_path: Path) -> None:
    """Beyond the brightness of random images, the outputs of this graph are not probabilities any more."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "limit"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["extra"], to=FLOAT),
        helper.make_node("Unsqueeze", ["extra", "one"], ["column"]),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["fair"], axis=1),
        helper.make_node("Add", ["fair", "column"], ["scores"]),
    ]
    constants = {"axes": np.array([1, 2, 3]), "limit": np.array(0.95, np.float32), "one": np.array([1])}
    path = save(tmp_path / "x.onnx", nodes, [("scores", FLOAT, ["N", 3])], weight=weights(3), **constants)
    cv2.imwrite(str(tmp_path / "white.png"), np.full((8, 8, 3), 255, np.uint8))
    plain = describe(normalisation="none")
    assert examine(path, plain, confined=False).activation == "none"
    assert examine(path, plain, [tmp_path / "white.png"], confined=False).activation == "softmax"


def test_the_description_is_in_the_file_or_beside_it(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"nothing says which labels it has .* model.spec.json, such as \{") as caught:
        examine(path, confined=False)
    # The example in the message is a spec.
    text = str(caught.value)
    assert ModelSpec.from_json(text[text.index("{") :]).labels == ("cat", "dog")
    path.with_suffix(".spec.json").write_text(SPEC.to_json())
    assert examine(path, confined=False).spec == SPEC
    path.with_suffix(".labels.txt").write_text("x\ny\nz\n")
    path.with_suffix(".preprocessing.yaml").write_text("normalisation: imagenet\n")
    assert examine(path, confined=False).spec.labels == ("x", "y", "z")
    model = onnx.load(path)
    model.metadata_props.add(key=SPEC_METADATA, value=SPEC.to_json())
    onnx.save(model, path)
    assert examine(path, confined=False).spec == SPEC
    assert examine(path, describe(), confined=False).spec.labels[0] == "label 0"


def test_a_graph_of_a_version_has_its_spec_beside_it(tmp_path: Path) -> None:
    spec = make_spec(["a", "b"])
    path = write_grey_graph(tmp_path / "model.onnx", spec)
    (tmp_path / "spec.json").write_text(spec.to_json())
    found = examine(path, confined=False)
    assert (found.spec, found.standard) == (spec, True)


def test_a_graph_that_does_not_match_its_spec_is_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    grey = SPEC.model_dump() | {"preprocessing": {"height": 4, "width": 6, "colour": "L"}}
    grey["normalisation"] = {"mean": [0], "std": [1]}
    for spec, message in (
        (SPEC.model_copy(update={"labels": ("a", "b")}), r"2 labels and 1 image need one output \[1, 2\]"),
        (SPEC.model_copy(update={"preprocessing": Preprocessing(height=9, width=9)}), "the description says 9×9"),
        (ModelSpec.model_validate(grey), r"an image must be \[batch, height, width, 1\] or \[batch, 1, height, width"),
    ):
        path.with_suffix(".spec.json").write_text(spec.to_json())
        with pytest.raises(ExportError, match=message):
            examine(path, confined=False)


def test_the_result_in_a_process_of_its_own_is_the_same(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx", shape=(1, 3, 4, 6))
    labels = [f"{index} {'x' * 200}" for index in range(3)]
    description = Description(labels=labels, settings=InputSettings(normalisation="clip"))
    assert examine(path, description) == examine(path, description, confined=False)
    with pytest.raises(ExportError, match="2 labels and 1 image") as caught:
        examine(path, describe(2))
    assert str(caught.value).startswith(f"{path}: does not match its description")
    with pytest.raises(UsageError, match="none.onnx: no such file"):
        examine(tmp_path / "none.onnx", description)
    path.write_text(json.dumps({}))
    with pytest.raises(ExportError, match="not an ONNX file"):
        examine(path, description)
