"""Small real ONNX graphs whose correct answer follows from the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tamiz import ModelSpec, Normalisation, Preprocessing
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA


def make_spec(labels: list[str], height: int = 28, width: int = 28, colour: str = "L", **options: object) -> ModelSpec:
    channels = 3 if colour == "RGB" else 1
    return ModelSpec(
        labels=tuple(labels),
        preprocessing=Preprocessing(height=height, width=width, colour=colour),
        normalisation=Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels),
        **options,
    )


def grey_level(index: int, classes: int) -> int:
    """The grey of a uniform image whose label has that index."""
    return round(index * 255 / (classes - 1))


def even(index: int, classes: int = 10) -> np.ndarray:
    """A uniform image whose label, under a grey graph with so many classes, has the index ``index % classes``."""
    return np.full((28, 28), grey_level(index % classes, classes), np.uint8)


def write_grey_graph(path: Path, spec: ModelSpec, *, busy_loops: int = 0) -> Path:
    """A classifier by mean grey: with K labels, a uniform image of grey g has the label round(g / 255 * (K - 1)).

    Each busy loop multiplies two 256×256 matrices, which makes an inference slower.
    """
    classes = len(spec.labels)
    centres = np.linspace(0, 255, classes, dtype=np.float32)[None]
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axis"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["mean", "centres"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["square"]),
        helper.make_node("Mul", ["square", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["answer"], axis=1),
    ]
    constants = {"centres": centres, "axis": np.array([1]), "scale": np.array(-0.02, np.float32)}
    last = "answer"
    if busy_loops:
        body = helper.make_graph(
            [
                helper.make_node("MatMul", ["matrix_in", "matrix_in"], ["matrix_out"]),
                helper.make_node("Identity", ["go_in"], ["go_out"]),
            ],
            "body",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
                helper.make_tensor_value_info("matrix_in", TensorProto.FLOAT, [256, 256]),
            ],
            [
                helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
                helper.make_tensor_value_info("matrix_out", TensorProto.FLOAT, [256, 256]),
            ],
        )
        nodes += [
            # The matrix depends on the image; otherwise the optimizer would compute the loop once and reuse the result.
            helper.make_node("ReduceMin", ["mean"], ["least"], keepdims=0),
            helper.make_node("Mul", ["least", "zeros"], ["matrix"]),
            helper.make_node("Loop", ["turns", "go", "matrix"], ["worked"], body=body),
            helper.make_node("ReduceMax", ["worked"], ["nothing"], keepdims=0),
            helper.make_node("Add", [last, "nothing"], ["delayed"]),
        ]
        constants |= {
            "turns": np.array(busy_loops),
            "go": np.array(True),
            "zeros": np.zeros((256, 256), np.float32),
        }
        last = "delayed"
    nodes.append(helper.make_node("Identity", [last], [OUTPUT_NAME]))
    inputs = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", *spec.preprocessing.shape])]
    outputs = [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", classes])]
    return save_graph(path, nodes, inputs, outputs, constants)


def write_published_graph(path: Path, spec: ModelSpec) -> Path:
    """A grey graph with its spec in its metadata, as `tamiz export` writes it."""
    model = onnx.load(write_grey_graph(path, spec))
    model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
    onnx.save(model, path)
    return path


def write_colour_graph(
    path: Path, spec: ModelSpec, *, channels: tuple[int, ...] = (0, 1, 2), gain: float = 10.0, half: bool = False
) -> Path:
    """A classifier by colour: an image has the label whose channel is the brightest on average.

    Args:
        path: path of the file.
        spec: a spec of three labels and RGB images.
        channels: the channel of each label.
        gain: what the brightness of a channel, from 0 to 1, is multiplied by.
        half: whether the multiplication is computed in float16, in which numbers above 65,504 are infinite.
    """
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Gather", ["means", "channels"], ["ordered"], axis=1),
        helper.make_node("Cast", ["ordered"], ["typed"], to=kind),
        helper.make_node("Mul", ["typed", "gain"], ["gained"]),
        helper.make_node("Mul", ["gained", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["logits"], to=TensorProto.FLOAT),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME], axis=1),
    ]
    constants = {
        "axes": np.array([1, 2]),
        "channels": np.array(channels),
        "gain": np.array(gain, dtype),
        "scale": np.array(1 / 255, dtype),
    }
    inputs = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", *spec.preprocessing.shape])]
    outputs = [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", len(spec.labels)])]
    return save_graph(path, nodes, inputs, outputs, constants)


def save_graph(path: Path, nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> Path:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
