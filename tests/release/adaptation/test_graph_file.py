"""ONNX files that are damaged or hostile: refused with the reason, before memory is used for what they claim."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_graphs import make_model, write_foreign
from onnx import TensorProto, helper

from tamiz import ExportError
from tamiz_release.adaptation.graph_file import load_graph

FLOAT = TensorProto.FLOAT
BOUND = 100 * 2**20


def refuse(path: Path, message: str) -> None:
    """The file is refused, and little memory is used."""
    tracemalloc.start()
    try:
        with pytest.raises(ExportError, match=message) as caught:
            load_graph(path)
        assert tracemalloc.get_traced_memory()[1] < BOUND
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 600 + len(str(path))


def external(path: Path, location: str, **entries: object) -> Path:
    """A classifier whose weights are said to be at the given location."""
    write_foreign(path)
    model = onnx.load(path)
    (weight,) = (each for each in model.graph.initializer if each.name == "weight")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def test_other_formats_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content, message in (
        (b"", "not an ONNX file, or one without a graph"),
        (b"damaged", "not an ONNX file: "),
        (pickle.dumps({"weight": 1}), "it is a pickle, which is never loaded because it could run any program"),
        (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file, such as a Keras model; convert it with tf2onnx"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; fetch the file"),
    ):
        path.write_bytes(content)
        refuse(path, message)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"")
    refuse(path, "a zip archive, such as a file of torch.save; export the model with torch.onnx.export")


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    refuse(tmp_path / "pipe.onnx", "not a file")
    refuse(tmp_path, "not a file")
    refuse(tmp_path / "none.onnx", "cannot be read: No such file")


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "folder/../../secret.bin", "", "a\\b", "weights\0.bin"]
)
def test_external_data_outside_of_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 864)
    (tmp_path / "inside" / "folder").mkdir(parents=True)
    path = external(tmp_path / "inside" / "model.onnx", location)
    refuse(path, "refused, because it is not a file in the folder of the ONNX file")


def test_external_data_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 864)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "inside" / "folder").symlink_to(tmp_path)
    for location in ("weights.bin", "folder/secret.bin"):
        refuse(external(tmp_path / "inside" / "model.onnx", location), "refused, because it is a link")


def test_external_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 864)
    assert load_graph(external(tmp_path / "model.onnx", "weights.bin"))
    os.mkfifo(tmp_path / "pipe.bin")
    for location, entries, message in (
        ("none.bin", {}, "cannot be read: No such file"),
        ("pipe.bin", {}, "not a file"),
        ("weights.bin", {"length": 4_000_000_000}, r"bytes 0 to 4,000,000,000 for a tensor of 864 bytes"),
        (
            "weights.bin",
            {"offset": 1},
            "bytes 1 to 865 for a tensor of 864 bytes, and the file has 864; copy",
        ),
        ("weights.bin", {"offset": -8}, "bytes -8 to"),
        ("weights.bin", {"offset": "x"}, "its offset or length is not a number"),
    ):
        refuse(external(tmp_path / "model.onnx", location, **entries), message)


def test_more_than_two_gibibytes_are_refused_by_their_size_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    # Sparse: no bytes are on disk.
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    refuse(path, "too large: with its external data it has 3.0 GiB")
    path = write_foreign(tmp_path / "many.onnx")
    model = onnx.load(path)
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(2**30)
    for index in range(3):
        tensor = TensorProto(name=f"w{index}", data_type=FLOAT, dims=[2**28], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="weights.bin")
        model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    refuse(path, "too large: with its external data it has 2.0 GiB")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (TensorProto(name="w", data_type=FLOAT, dims=[10**6, 10**6], raw_data=b"0000"), "too large: 3,725.3 GiB"),
        (TensorProto(name="w", data_type=FLOAT, dims=[10**12, 10**12]), "too large"),
        (
            TensorProto(name="w", data_type=FLOAT, dims=[1000, 1000], raw_data=b"0000"),
            "claims 4,000,000 bytes and holds 4;",
        ),
        (
            TensorProto(name="w", data_type=FLOAT, dims=[1000, 1000], float_data=[1.0]),
            "claims 4,000,000 bytes and holds few",
        ),
        (TensorProto(name="w", data_type=FLOAT, dims=[1000]), "claims 4,000 bytes and holds 0"),
        (TensorProto(name="w", data_type=FLOAT, dims=[-1]), "has a negative dimension"),
        (TensorProto(name="w" * 9999, data_type=99, dims=[1]), "has the unknown type 99"),
    ],
)
@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
def test_tensors_that_are_not_what_they_claim_are_refused(
    tensor: TensorProto, message: str, place: str, tmp_path: Path
) -> None:
    tensor = TensorProto.FromString(tensor.SerializeToString())
    tensor.data_type = tensor.data_type or FLOAT
    path = write_foreign(tmp_path / "model.onnx")
    model = onnx.load(path)
    if place == "initializer":
        model.graph.initializer.append(tensor)
    else:
        node = helper.make_node("Constant", [], ["made"])
        node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)
        if place == "branch":
            graph = helper.make_graph([node], "branch", [], [])
            node = helper.make_node("If", ["yes"], ["made"], then_branch=graph, else_branch=graph)
        model.graph.node.append(node)
    path.write_bytes(model.SerializeToString())
    refuse(path, message)


def test_a_sparse_tensor_that_would_be_huge_is_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    model = onnx.load(path)
    values = helper.make_tensor("w", FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**7, 10**7]))
    path.write_bytes(model.SerializeToString())
    refuse(path, "too large")


def test_a_cyclic_graph_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "c"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
    ]
    value = helper.make_tensor_value_info
    model = make_model(nodes, [value("x", FLOAT, [1, 3, 4, 4])], [value("c", FLOAT, None)], {})
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    refuse(path, "its nodes form a cycle, such as through first, so it cannot be computed")
    # A node that needs itself through a graph within it.
    inner = helper.make_graph([helper.make_node("Relu", ["a"], ["inner"])], "inner", [], [value("inner", FLOAT, None)])
    looped = helper.make_node("If", ["yes"], ["a"], name="itself", then_branch=inner, else_branch=inner)
    model = make_model([looped], [], [value("a", FLOAT, None)], {"yes": np.array(True)})
    path.write_bytes(model.SerializeToString())
    refuse(path, "its nodes form a cycle, such as through itself")


def test_operators_of_other_libraries_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Decrypt", ["flat"], ["out"], domain="example.hidden"))
    path.write_bytes(model.SerializeToString())
    refuse(path, "uses the operator Decrypt of the domain example.hidden, which ONNX Runtime does not have")


def function(name: str, calls: list[str]) -> onnx.FunctionProto:
    names = [f"v{index}" for index in range(len(calls) + 1)]
    nodes = [
        helper.make_node(called, [names[index]], [names[index + 1]], domain="own") for index, called in enumerate(calls)
    ]
    return helper.make_function("own", name, names[:1], names[-1:], nodes, [helper.make_opsetid("own", 1)])


def write_functions(path: Path, functions: list[onnx.FunctionProto]) -> Path:
    model = onnx.load(write_foreign(path))
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node(functions[0].name, ["flat"], ["out"], domain="own"))
    path.write_bytes(model.SerializeToString())
    return path


def test_functions_that_never_end_or_grow_without_bounds_are_refused(tmp_path: Path) -> None:
    path = write_functions(tmp_path / "a.onnx", [function("A", ["B"]), function("B", ["A"])])
    refuse(path, "its function A calls itself")
    # Each function calls the next one a hundred times: 100 to the power of 8 nodes.
    functions = [function(f"F{level}", [f"F{level + 1}"] * 100) for level in range(8)]
    relu = helper.make_node("Relu", ["x"], ["y"])
    last = helper.make_function("own", "F8", ["x"], ["y"], [relu], [helper.make_opsetid("", 18)])
    refuse(write_functions(tmp_path / "b.onnx", [*functions, last]), "more than 1,000,000 nodes when its functions")


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message."""
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size % 128 | 128])
        size //= 128
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_deeply_nested_graphs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for depth, message in ((20, "its graphs are nested more than 16 deep"), (20_000, "not an ONNX file: .*pars")):
        graph = b""
        for _ in range(depth):
            # A graph with a node with an attribute that is a graph.
            graph = field(1, field(4, b"If") + field(5, field(1, b"branch") + field(6, graph)))
        output = field(12, field(1, b"y"))
        path.write_bytes(field(7, graph + output))
        refuse(path, message)
