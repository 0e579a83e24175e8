from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from tamiz.preprocessing import prepare
from tamiz_bench.contenders.float32_model import take_float32
from tamiz_server.repository import Repository


def test_the_float32_graph_gives_the_probabilities_of_the_uint8_graph(published: Path) -> None:
    repository = Repository(published / "model_repository")
    graph = repository.path / "digits" / "1" / "model.onnx"
    spec = repository.live_version("digits").spec
    pixels = np.stack([prepare(path, spec.preprocessing) for path in sorted((published / "digits").rglob("*.png"))[:9]])
    normalised = (pixels / 255 - np.array(spec.normalisation.mean)) / np.array(spec.normalisation.std)
    results = []
    for model, images in (
        (onnx.load(graph), pixels),
        (take_float32(onnx.load(graph)), normalised.transpose(0, 3, 1, 2).astype(np.float32)),
    ):
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"image": images})[0])
    np.testing.assert_allclose(*results, atol=1e-5)
