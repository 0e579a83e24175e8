from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tamiz.preprocessing import prepare
from tamiz_bench.plain_client import take_float
from tamiz_server.repository import Repository
from tamiz_train.digits import write_digits
from tamiz_train.export import export
from tamiz_train.recipe import load_recipe
from tamiz_train.training import train


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of a model that was trained for a moment, beside its images."""
    folder = tmp_path_factory.mktemp("published")
    write_digits(folder / "digits")
    settings = [f"data.root={folder / 'digits'}", f"runs_dir={folder / 'runs'}", "train.epochs=1", "tracking.uri=null"]
    run = train(load_recipe("digits", settings))
    Repository(folder / "model_repository").publish("digits", export(run).path, run.spec)
    return folder


def test_a_graph_that_takes_float_gives_what_the_one_that_takes_bytes_gives(published: Path) -> None:
    repository = Repository(published / "model_repository")
    graph = repository.path / "digits" / "1" / "model.onnx"
    spec = repository.live("digits").spec
    pixels = np.stack([prepare(path, spec.preprocessing) for path in sorted((published / "digits").rglob("*.png"))[:9]])
    normalised = (pixels / 255 - np.array(spec.normalisation.mean)) / np.array(spec.normalisation.std)
    results = []
    for model, images in (
        (onnx.load(graph), pixels),
        (take_float(onnx.load(graph)), normalised.transpose(0, 3, 1, 2).astype(np.float32)),
    ):
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"image": images})[0])
    np.testing.assert_allclose(*results, atol=1e-5)


def test_the_contenders_are_measured_in_turns_and_compared(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], published: Path
) -> None:
    options = ["--model", "digits", "--seconds", 0.1, "--rounds", 1, "--json"]
    done = tamiz("bench-client", published / "digits" / "test", *options, cwd=published)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    contenders = {"tamiz", "tamiz, shared memory", "plain", "plain, 16 threads", "limit"}
    assert set(report["images_per_s"]) == set(report["to_limit"]) == contenders
    assert all(len(speeds) == 1 and speeds[0] > 0 for speeds in report["images_per_s"].values())
    assert report["labels_of_plain_that_differ_in_100"] < 5
    assert json.loads((published / "reports" / "digits-client" / "report.json").read_text()) == report
