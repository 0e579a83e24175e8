"""``tamiz publish`` of graphs and models of other tools; of runs, see the tests of publication."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
from foreign_graphs import IMAGES, logits, softmax, write_foreign
from safetensors.torch import save_file

from tamiz.cli import main
from tamiz_server.repository import Repository
from tamiz_train.graph import Graph

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    """The options for the labels and the preprocessing of a classifier with a background class."""
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    preprocessing = {"normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}, "background": 0}
    (tmp_path / "input.json").write_text(json.dumps(preprocessing))
    return ["--labels", tmp_path / "labels.txt", "--preprocessing", tmp_path / "input.json"]


def test_a_graph_of_another_tool_is_adapted_and_published(tmp_path: Path, tamiz: Tamiz, files: list[object]) -> None:
    path = write_foreign(tmp_path / "foreign.onnx", shape=(1, 3, 4, 6), classes=4)
    done = tamiz("publish", path, "--model", "foreign", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "input float32 NCHW of 4×6; normalised by mean [0.5, 0.4, 0.3]" in done.stdout
    assert "the batch of 1 is made dynamic; background output 0 dropped; softmax applied" in done.stdout
    version = Repository(tmp_path / "model_repository").live_version("foreign")
    graph = Graph(tmp_path / "model_repository" / "foreign" / "1" / "model.onnx")
    np.testing.assert_allclose(graph.probabilities(IMAGES), softmax(logits(classes=4)[:, 1:]), atol=1e-5)
    assert (version.spec.labels, version.manifest["source"]["file"]) == (("a", "b", "c"), "foreign.onnx")


def test_a_model_of_timm_is_published_with_local_weights(tmp_path: Path, tamiz: Tamiz) -> None:
    save_file(timm.create_model("test_byobnet").state_dict(), tmp_path / "weights.safetensors")
    done = tamiz("publish", "timm:test_byobnet", "--weights", "weights.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    version = Repository(tmp_path / "model_repository").live_version("test_byobnet")
    assert (len(version.spec.labels), version.manifest["source"]["weights"]) == (1000, "weights.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["foreign.onnx"], "--model: give the name of the model to publish this graph to"),
        (["none.onnx", "--model", "x"], "none.onnx: no such file"),
        (["foreign.onnx", "--model", "x", "--labels", "none.txt"], "--labels none.txt: no such file"),
        (["foreign.onnx", "--model", "x", "--preprocessing", "p.yaml"], "--labels: give the labels of the model too"),
        (["foreign.onnx", "--model", "x", "--weights", "w"], "--weights: only a model of timm needs it"),
        (["foreign.onnx", "--model", "x", "--apply-serving"], "--apply-serving: only a run has serving settings"),
        (
            ["foreign.onnx", "--model", "x", "--max-loss", "1"],
            "--max-loss: only a run is exported in another precision",
        ),
        (
            ["runs/digits", "--labels", "l.txt"],
            "--labels: a run and a registered version have their own labels; leave it out",
        ),
        (["timm:resnet50", "--target", "tensorrt"], "--target: it is for a run and for an ONNX file; leave it out"),
        (["runs/digits", "--engine-cache", "/c"], "--engine-cache: only --target tensorrt has engines; leave it out"),
        (["timm:resnet50", "--preprocessing", "p.yaml"], "--preprocessing: only an ONNX file needs it; leave it out"),
    ],
)
def test_options_that_are_missing_or_have_no_meaning_are_usage_errors(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_foreign(tmp_path / "foreign.onnx")
    with pytest.raises(SystemExit) as ended:
        main(["publish", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
