"""Foreign classifiers wrapped into the standard graph, compared with NumPy and with the graph as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_graphs import IMAGES, SPEC, logits, make_model, softmax, weights, write_foreign
from onnx import TensorProto, helper

from tamiz import ExportError, Normalisation
from tamiz.spec import SPEC_METADATA
from tamiz_release.adaptation import Adaptation, Description, InputSettings, examine, open_foreign, write_adapted
from tamiz_train.graph import Graph, read_spec

NORMALISATION = SPEC.normalisation.model_dump()


def describe(labels: int = 3, **settings: Any) -> Description:
    settings.setdefault("normalisation", NORMALISATION)
    return Description(labels=[f"label {index}" for index in range(labels)], settings=InputSettings(**settings))


def adapt(path: Path, description: Description) -> tuple[Adaptation, Graph]:
    """Wrap a graph; on the way, the graph as it is must give what the wrapped one gives, and the spec must fit."""
    adaptation = examine(path, description, confined=False)
    out = path.with_name("adapted.onnx")
    write_adapted(path, adaptation, out)
    assert read_spec(out) == adaptation.spec
    graph = Graph(out)
    reference = open_foreign(path).probabilities(IMAGES, adaptation)
    np.testing.assert_allclose(
        graph.probabilities(IMAGES), reference, atol=0.01 if adaptation.dtype == "float16" else 1e-5
    )
    return adaptation, graph


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("N", 3, 4, 6), "NCHW"),
        (("N", 3, "height", "width"), "NCHW"),
        (("N", 4, 6, 3), "NHWC"),
        (("N", "height", "width", 3), "NHWC"),
    ],
)
def test_channels_may_be_first_or_last(shape: tuple, layout: str, tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx", shape=shape)
    found, graph = adapt(path, describe(preprocessing={"height": 4, "width": 6}))
    assert (found.layout, found.activation, found.spec.preprocessing.shape) == (layout, "softmax", (4, 6, 3))
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits(layout=layout)), atol=1e-5)


def test_float32_logits_of_1001_classes_lose_their_background_class(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx", classes=1001)
    found, graph = adapt(path, describe(1000, background=0))
    assert found.spec.labels[0] == "label 0"
    expected = softmax(logits(classes=1001)[:, 1:])
    np.testing.assert_allclose(graph.probabilities(IMAGES), expected, atol=1e-5)
    # A labels file may have the background too.
    named, _ = adapt(path, describe(1001, background=0))
    assert (len(named.spec.labels), named.spec.labels[0]) == (1000, "label 1")


def test_probabilities_without_the_background_sum_to_1_again(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx", classes=4, last="Softmax")
    found, graph = adapt(path, describe(3, background=3))
    assert found.activation == "none"
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits(classes=4)[:, :3]), atol=1e-5)


def test_a_graph_that_takes_uint8_and_returns_probabilities_needs_labels_only(tmp_path: Path) -> None:
    path = write_foreign(
        tmp_path / "model.onnx", shape=("N", 4, 6, 3), kind=TensorProto.UINT8, last="Softmax", factor=1 / 255
    )
    found, graph = adapt(path, Description(labels=("a", "b", "c")))
    assert (found.dtype, found.layout, found.activation, found.standard) == ("uint8", "NHWC", "none", False)
    plain = logits(layout="NHWC", mean=(0, 0, 0), std=(1, 1, 1))
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(plain), atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("flat", [(0, 72), (-1, 72), "fixed", "rest"])
def test_a_fixed_batch_is_made_dynamic(batch: int, flat: Any, tmp_path: Path) -> None:
    flat = {"fixed": (batch, 72), "rest": (batch, -1)}.get(flat, flat)
    path = write_foreign(tmp_path / "model.onnx", shape=(batch, 3, 4, 6), flat=flat)
    found, graph = adapt(path, describe())
    assert (found.batch, found.frozen) == (batch, None)
    for size in (1, 3, 11):
        np.testing.assert_allclose(graph.probabilities(IMAGES[:size]), softmax(logits(IMAGES[:size])), atol=1e-5)


def test_a_batch_that_is_fixed_within_the_graph_is_found_and_made_dynamic(tmp_path: Path) -> None:
    found, graph = adapt(write_foreign(tmp_path / "model.onnx", flat=(1, 72)), describe())
    assert (found.batch, found.frozen) == (1, None)
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits()), atol=1e-5)


def mixing_model(path: Path) -> Path:
    """A graph of batch 1 that takes more images too, but then computes one softmax for all of them."""
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node("Exp", ["logits"], ["exponents"]),
        helper.make_node("ReduceSum", ["exponents"], ["sum"], keepdims=0),
        helper.make_node("Div", ["exponents", "sum"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 4, 6])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])]
    onnx.save(make_model(nodes, inputs, outputs, {"weight": weights(3)}), path)
    return path


def token_model(path: Path) -> Path:
    """A graph of batch 1 that adds a constant row to each image, as exported transformers do with their class token."""
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "one"], ["rows"]),
        helper.make_node("Concat", ["token", "rows", "token"], ["tokens"], axis=1),
        helper.make_node("ReduceSum", ["tokens", "one"], ["scores"], keepdims=0),
    ]
    constants = {"weight": weights(3), "one": np.array([1]), "token": np.array([[[0.5, 0.25, 0]]], np.float32)}
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 4, 6])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])]
    onnx.save(make_model(nodes, inputs, outputs, constants), path)
    return path


def test_constants_that_are_added_to_each_image_are_repeated_for_a_dynamic_batch(tmp_path: Path) -> None:
    found, graph = adapt(token_model(tmp_path / "model.onnx"), describe())
    assert (found.batch, found.frozen) == (1, None)
    expected = softmax(logits() + np.array([1, 0.5, 0]))
    np.testing.assert_allclose(graph.probabilities(IMAGES), expected, atol=1e-5)


def row_model(path: Path) -> Path:
    """A graph of batch 1 that removes the dimension of the batch."""
    nodes = [
        helper.make_node("Squeeze", ["pixels", "zero"], ["image"]),
        helper.make_node("Reshape", ["image", "all"], ["row"]),
        helper.make_node("MatMul", ["row", "weight"], ["scores"]),
    ]
    constants = {"weight": weights(3), "zero": np.array([0]), "all": np.array([1, 72])}
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 4, 6])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])]
    onnx.save(make_model(nodes, inputs, outputs, constants), path)
    return path


@pytest.mark.parametrize(
    ("write", "reason"),
    [(mixing_model, "in a batch of 2, its probabilities differ by up to"), (row_model, "Squeeze node")],
)
def test_a_batch_that_cannot_be_made_dynamic_is_refused_with_the_reason(
    write: Any, reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "model.onnx")
    found = examine(path, describe(), confined=False)
    with pytest.raises(ExportError, match=f"its batch size is fixed at 1 and cannot be made dynamic: .*{reason}"):
        write_adapted(path, found, tmp_path / "adapted.onnx")
    assert not (tmp_path / "adapted.onnx").exists()
    # It can be evaluated, one image at a time.
    assert open_foreign(path).probabilities(IMAGES, found).shape == (11, 3)


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 4), (11, 6), (13, 7), (20, 10), (28, 14)])
def test_old_and_new_versions_of_onnx_are_taken(opset: int, ir_version: int, tmp_path: Path) -> None:
    assert onnx.defs.onnx_opset_version() <= 28, "add the newest version"
    path = write_foreign(tmp_path / "model.onnx", opset=opset, ir_version=ir_version, classes=4, last="Softmax")
    _, graph = adapt(path, describe(3, background=3))
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits(classes=4)[:, :3]), atol=1e-5)


def test_weights_that_are_inputs_too_as_in_old_files_stay_weights(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx", opset=11, ir_version=3)
    model = onnx.load(path)
    for each in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(each.name, each.data_type, each.dims))
    onnx.save(model, path)
    _, graph = adapt(path, describe())
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits()), atol=1e-5)


def test_external_data_is_put_into_the_file(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    path = write_foreign(tmp_path / "foreign" / "model.onnx", external=True)
    assert (tmp_path / "foreign" / "weights.bin").is_file()
    found = examine(path, describe(), confined=False)
    write_adapted(path, found, tmp_path / "adapted.onnx")
    (tmp_path / "foreign" / "weights.bin").unlink()
    np.testing.assert_allclose(Graph(tmp_path / "adapted.onnx").probabilities(IMAGES), softmax(logits()), atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_are_taken(kind: int, tmp_path: Path) -> None:
    _, graph = adapt(write_foreign(tmp_path / "model.onnx", kind=kind), describe())
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits()), atol=0.01)


def test_values_from_0_to_255_and_the_order_bgr_are_taken(tmp_path: Path) -> None:
    mean, std = (104.0, 117.0, 123.0), (57.0, 58.0, 59.0)
    path = write_foreign(tmp_path / "model.onnx")
    found, graph = adapt(path, describe(normalisation={"mean": mean, "std": std}, channel_order="BGR"))
    expected = softmax(logits(IMAGES[..., ::-1], mean=mean, std=std, scale=1))
    np.testing.assert_allclose(graph.probabilities(IMAGES), expected, atol=1e-5)
    # The spec has the values of the channels in the order RGB, between 0 and 1.
    assert found.spec.normalisation.mean == pytest.approx(tuple(value / 255 for value in mean[::-1]))
    plain, graph = adapt(
        write_foreign(tmp_path / "plain.onnx", factor=1 / 255), describe(normalisation="none", scale=255)
    )
    assert plain.spec.normalisation.std == pytest.approx((1 / 255,) * 3)
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits(mean=(0, 0, 0), std=(1, 1, 1))), atol=1e-5)


def test_logits_of_several_labels_get_a_sigmoid(tmp_path: Path) -> None:
    found, graph = adapt(write_foreign(tmp_path / "model.onnx"), describe(task="multilabel", thresholds=0.4))
    assert (found.activation, found.spec.thresholds) == ("sigmoid", (0.4, 0.4, 0.4))
    np.testing.assert_allclose(graph.probabilities(IMAGES), 1 / (1 + np.exp(-logits())), atol=1e-5)
    path = write_foreign(tmp_path / "sigmoid.onnx", last="Sigmoid")
    found, graph = adapt(path, describe(task="multilabel"))
    assert found.activation == "none"
    np.testing.assert_allclose(graph.probabilities(IMAGES), 1 / (1 + np.exp(-logits())), atol=1e-5)


def test_an_activation_can_be_given(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx", last="Sigmoid")
    found, graph = adapt(path, describe(activation="softmax"))
    assert found.activation == "softmax"
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(1 / (1 + np.exp(-logits()))), atol=1e-5)


def test_an_output_with_further_dimensions_of_1_is_taken(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Unsqueeze", ["scores", "last axes"], ["maps"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3]), "last axes"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", 3, 1, 1]))
    onnx.save(model, path)
    _, graph = adapt(path, describe())
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits()), atol=1e-5)


def test_one_of_several_outputs_is_taken_if_it_is_named(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 72]))
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"it has 2 outputs \(scores float32 \[2, 3\], flat float32 \[2, 72\]\)"):
        examine(path, describe(), confined=False)
    _, graph = adapt(path, describe(output="scores"))
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits()), atol=1e-5)
    with pytest.raises(ExportError, match="it has no output 'scoers'; did you mean 'scores'"):
        examine(path, describe(output="scoers"), confined=False)


def test_names_functions_and_branches_of_the_foreign_graph_do_not_collide_with_those_around_it(tmp_path: Path) -> None:
    addition = helper.make_node("Add", ["x", "x"], ["y"])
    call = helper.make_function("own.functions", "Double", ["x"], ["y"], [addition], [helper.make_opsetid("", 18)])
    value = helper.make_tensor_value_info
    branches = {
        name: helper.make_graph(
            [helper.make_node("Identity", ["outputs"], [name])], name, [], [value(name, TensorProto.FLOAT, None)]
        )
        for name in ("then_branch", "else_branch")
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["prepared"]),
        helper.make_node("Double", ["prepared"], ["doubled"], domain="own.functions"),
        helper.make_node("MatMul", ["doubled", "weight"], ["outputs"]),
        helper.make_node("If", ["yes"], ["probabilities"], **branches),
    ]
    inputs = [value("image", TensorProto.FLOAT, ["N", 3, 4, 6])]
    outputs = [value("probabilities", TensorProto.FLOAT, ["N", 3])]
    model = make_model(nodes, inputs, outputs, {"weight": weights(3) / 2, "yes": np.array(True)})
    model.functions.append(call)
    model.opset_import.append(helper.make_opsetid("own.functions", 1))
    onnx.save(model, tmp_path / "model.onnx")
    _, graph = adapt(tmp_path / "model.onnx", describe())
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits()), atol=1e-5)


def test_nodes_in_any_order_and_other_metadata_are_kept(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    model = onnx.load(path)
    nodes = [*model.graph.node][::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.metadata_props.add(key="author", value="somebody")
    onnx.save(model, path)
    _, graph = adapt(path, describe())
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits()), atol=1e-5)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "adapted.onnx").metadata_props}
    assert (metadata["author"], SPEC_METADATA in metadata) == ("somebody", True)


def test_an_adapted_file_is_standard_and_is_copied_as_it_is(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    first, _ = adapt(path, describe())
    second = examine(tmp_path / "adapted.onnx", confined=False)
    assert (second.standard, second.spec) == (True, first.spec)
    write_adapted(tmp_path / "adapted.onnx", second, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "adapted.onnx").read_bytes()
    assert first.spec.normalisation == Normalisation(**NORMALISATION)
