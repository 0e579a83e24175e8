"""Export of a run to ONNX, and the comparison of the graph with the network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm.layers
import torch
from graphs import make_spec
from timm.models.nest import Nest

from tamiz import ExportError, ModelSpec, Normalisation, Preprocessing
from tamiz_train import onnx_export as module
from tamiz_train.classifier import Classifier
from tamiz_train.graph import read_spec
from tamiz_train.networks import build_classifier
from tamiz_train.onnx_export import check_export, export, write_graph
from tamiz_train.recipe import ModelSettings
from tamiz_train.run import Run

pytestmark = pytest.mark.integration


def test_the_graph_takes_any_batch_of_pixels_and_returns_probabilities(run: Run) -> None:
    exported = export(run)
    assert exported.parity.holds
    assert exported.parity.images == 207
    session = ort.InferenceSession(exported.path)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("image", "tensor(uint8)", [28, 28, 1])
    assert (given.name, given.type, given.shape[1:]) == ("probabilities", "tensor(float)", [10])
    for batch in (1, 5):
        (probabilities,) = session.run(None, {"image": np.zeros((batch, 28, 28, 1), np.uint8)})
        np.testing.assert_allclose(probabilities.sum(1), np.ones(batch), rtol=1e-5)


def test_the_graph_contains_the_spec_and_the_run_contains_the_comparison(run: Run) -> None:
    exported = export(run)
    assert read_spec(exported.path) == run.spec
    assert json.loads((run.path / "parity.json").read_text()) == exported.parity.to_dict()


def test_a_graph_that_computes_something_else_is_an_export_error_and_is_not_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
        with torch.no_grad():
            classifier.network[-1].bias[3] += 0.01
            write_graph(classifier, spec, path)
            classifier.network[-1].bias[3] -= 0.01

    monkeypatch.setattr(module, "write_graph", write_another)
    with pytest.raises(
        ExportError, match="does not compute what the network computes: the predicted labels agree on \\d+ of 207"
    ):
        export(run)
    assert not list(run.path.glob("*.onnx*"))
    assert not (run.path / "parity.json").exists()


def test_a_network_that_cannot_be_exported_is_an_export_error_with_the_reason(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Untraceable(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.sum((2, 3)) if image.sum().item() > 0 else image.mean((2, 3))

    monkeypatch.setattr(module, "load_classifier", lambda run: Classifier(Untraceable(), run.spec).eval())
    with pytest.raises(ExportError, match="cannot be exported to ONNX: Could not guard on data-dependent.*; set model"):
        export(run)
    assert capfd.readouterr() == ("", "")
    assert not list(run.path.glob("*.onnx*"))


def test_the_graph_of_a_timm_model_computes_what_the_model_computes(tmp_path: Path) -> None:
    """With padding that depends on the size of the image; the shipped recipes cover other networks."""
    spec = ModelSpec(
        labels=("a", "b", "c"),
        preprocessing=Preprocessing(height=64, width=96),
        normalisation=Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
    )
    torch.manual_seed(0)
    settings = ModelSettings(name="mobilenetv2_100", options={"pad_type": "same"})
    classifier = build_classifier(settings, spec).eval()
    path = tmp_path / "model.onnx"
    write_graph(classifier, spec, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), np.uint8)
    (actual,) = ort.InferenceSession(path).run(None, {"image": images})
    with torch.inference_mode():
        expected = classifier(torch.from_numpy(images)).softmax(1).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_network_with_fused_attention_is_checked_before_training_and_stays_as_it_was() -> None:
    spec = make_spec(["a", "b", "c"], 64, 64, "RGB")
    # Its attention has five dimensions, which the exporter does not convert when it is fused.
    network = Nest(img_size=64, embed_dims=(24, 24, 24), num_heads=(2, 2, 2), depths=(1, 1, 1), num_classes=3)
    classifier = Classifier(network, spec)
    images = np.random.default_rng(0).integers(0, 256, (15, 64, 64, 3), np.uint8)
    parity = check_export(classifier, spec, images)
    assert parity.images == 15
    assert parity.largest_difference < 1e-6
    assert timm.layers.use_fused_attn()
    assert all(module.fused_attn for module in classifier.modules() if hasattr(module, "fused_attn"))


def test_a_graph_that_computes_something_else_is_found_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(["a", "b", "c"])
    classifier = build_classifier(ModelSettings(name="mlp"), spec)

    def write_another(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
        write_graph(build_classifier(ModelSettings(name="mlp"), spec), spec, path)

    monkeypatch.setattr(module, "write_graph", write_another)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    with pytest.raises(ExportError, match="model: the exported graph does not compute what the network computes"):
        check_export(classifier, spec, images)
