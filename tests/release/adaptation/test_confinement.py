"""Graphs that need too much memory or time: stopped in a process of their own, with the reason."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_graphs import make_model
from onnx import TensorProto, helper

from tamiz import ExportError
from tamiz_release.adaptation import Description, InputSettings, examine

pytestmark = pytest.mark.integration

FLOAT = TensorProto.FLOAT
DESCRIPTION = Description(labels=("a", "b", "c"), settings=InputSettings(normalisation="none"))


def save(path: Path, nodes: list, **constants: np.ndarray) -> Path:
    value = helper.make_tensor_value_info
    inputs, outputs = [value("pixels", FLOAT, ["N", 3, 4, 6])], [value("scores", FLOAT, ["N", 3])]
    onnx.save(make_model(nodes, inputs, outputs, constants), path)
    return path


def write_memory_bomb(path: Path) -> Path:
    """A kilobyte that needs 400 GB: the image repeated into a tensor of that size."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["scores"], keepdims=0),
        helper.make_node("Expand", ["pixels", "shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["largest"], keepdims=0),
        helper.make_node("Add", ["scores", "largest"], ["sum"]),
    ]
    nodes[0].output[0], nodes[-1].output[0] = "means", "scores"
    nodes[-1].input[0] = "means"
    constants = {"axes": np.array([2, 3]), "shape": np.array([10**9, 1, 1, 1, 1])}
    return save(path, nodes, **constants)


def write_loop_bomb(path: Path) -> Path:
    """A loop of 10 to the power of 15 turns. It depends on the image, so that it is not computed when it is loaded."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Sin", ["x_in"], ["x_out"])],
        "body",
        [value("turn", TensorProto.INT64, []), value("go_in", TensorProto.BOOL, []), value("x_in", FLOAT, None)],
        [value("go_out", TensorProto.BOOL, []), value("x_out", FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Loop", ["turns", "go", "means"], ["scores"], body=body),
    ]
    return save(path, nodes, axes=np.array([2, 3]), turns=np.array(10**15), go=np.array(True))


def test_a_graph_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = write_memory_bomb(tmp_path / "model.onnx")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(ExportError, match=r"cannot be run: .*(allocate|memory|bad_alloc)"):
        examine(path, DESCRIPTION, memory=2**30)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert largest <= max(before, 2 * 2**20), "kilobytes"


def test_a_graph_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    path = write_loop_bomb(tmp_path / "model.onnx")
    began = time.monotonic()
    with pytest.raises(ExportError, match=r"stopped after 6 s: it takes too long|ended with SIG(XCPU|KILL)"):
        examine(path, DESCRIPTION, seconds=6)
    assert time.monotonic() - began < 60


def test_a_file_that_takes_much_memory_to_read_is_refused(tmp_path: Path) -> None:
    """Three bytes for each of 20 million nodes, which take many times as much when they are read."""
    path = tmp_path / "model.onnx"
    graph = b"\x0a\x00" * 20_000_000
    length, size = b"", len(graph)
    while size:
        length += bytes([size % 128 | (128 if size > 127 else 0)])
        size //= 128
    path.write_bytes(b"\x08\x09\x3a" + length + graph)
    with pytest.raises(ExportError, match=r"memory|not an ONNX file"):
        examine(path, DESCRIPTION, memory=2**30)


def test_nothing_in_the_current_folder_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Softmax", ["means"], ["scores"]),
    ]
    path = save(tmp_path / "model.onnx", nodes, axes=np.array([2, 3]))
    executed = tmp_path / "executed"
    for name in ("yaml", "numpy", "onnx", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text(f"open({str(executed)!r}, 'a').write(__name__)\n")
    monkeypatch.chdir(tmp_path)
    assert examine(path, DESCRIPTION).spec.labels == ("a", "b", "c")
    assert not executed.exists()


def test_publishing_a_hostile_file_needs_little_memory_itself(tmp_path: Path) -> None:
    """The command has a limit of its own here, and its process, unlike the examined graph, stays within it."""
    path = write_memory_bomb(tmp_path / "model.onnx")
    (tmp_path / "model.labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "model.preprocessing.yaml").write_text("normalisation: none\n")
    code = (
        "from pathlib import Path\n"
        "from tamiz.cli import main\n"
        "try:\n"
        f"    main(['publish', {str(path)!r}, '--model', 'x', '--repository', {str(tmp_path / 'repository')!r}])\n"
        "finally:\n"
        # Not ru_maxrss, which begins with the memory of the process that started this one.
        "    (line,) = [line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line]\n"
        "    print(line.split()[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}: cannot be run: ")
    assert "Traceback" not in done.stderr
    assert int(done.stdout) < 2**20, "kilobytes"
    assert not (tmp_path / "repository").exists()
