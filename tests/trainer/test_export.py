from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from conftest import Served
from graphs import make_spec, write_grey_graph

from tamiz import ExportError, ModelSpec, Normalisation, Preprocessing
from tamiz_server.repository import Repository, sha256
from tamiz_train import export as module
from tamiz_train.export import describe, export, read_spec
from tamiz_train.models import Classifier, create_model
from tamiz_train.run import Run
from tamiz_train.settings import ModelSettings


def test_the_graph_takes_any_batch_of_pixels_and_gives_probabilities(run: Run) -> None:
    exported = export(run)
    assert exported.parity.holds
    assert exported.parity.images == 216
    session = ort.InferenceSession(exported.path)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("image", "tensor(uint8)", [28, 28, 1])
    assert (given.name, given.type, given.shape[1:]) == ("probabilities", "tensor(float)", [10])
    for batch in (1, 5):
        (probabilities,) = session.run(None, {"image": np.zeros((batch, 28, 28, 1), np.uint8)})
        np.testing.assert_allclose(probabilities.sum(1), np.ones(batch), rtol=1e-5)


def test_the_spec_is_in_the_graph_and_the_parity_beside_it(run: Run) -> None:
    exported = export(run)
    assert read_spec(exported.path) == run.spec
    assert json.loads((run.path / "parity.json").read_text()) == exported.parity.to_dict()
    manifest = describe(run, exported)
    assert manifest["weights_sha256"] == sha256(run.path / "model.safetensors")
    assert manifest["metrics"]["test"] == run.metrics["test"]


def test_a_graph_that_is_not_the_model_is_an_export_error_and_nothing_is_left(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = module._write_graph

    def write_another(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
        with torch.no_grad():
            classifier.backbone[-1].bias[3] += 0.01
            write(classifier, spec, path)
            classifier.backbone[-1].bias[3] -= 0.01

    monkeypatch.setattr(module, "_write_graph", write_another)
    with pytest.raises(ExportError, match="the exported graph is not the trained model: labels agree on"):
        export(run)
    assert not list(run.path.glob("*.onnx*"))
    assert not (run.path / "parity.json").exists()


def test_a_model_that_cannot_be_exported_is_an_export_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Untraceable(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.sum((2, 3)) if image.sum().item() > 0 else image.mean((2, 3))

    def load_untraceable(self: Run) -> Classifier:
        return Classifier(Untraceable(), run.spec).eval()

    monkeypatch.setattr(Run, "load_model", load_untraceable)
    with pytest.raises(ExportError, match="cannot be exported to ONNX"):
        export(run)
    assert not list(run.path.glob("*.onnx*"))


def test_only_a_graph_of_tamiz_has_a_spec(tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "graph.onnx", make_spec(["a", "b"]))
    with pytest.raises(ExportError, match="no tamiz.spec in its metadata"):
        read_spec(graph)
    # A graph whose spec is another's.
    model = onnx.load(graph)
    model.metadata_props.add(key=module.SPEC_METADATA, value=make_spec(["a", "b", "c"]).to_json())
    onnx.save(model, graph)
    with pytest.raises(ExportError, match="2 images and 3 labels gave"):
        read_spec(graph)
    model.metadata_props[0].value = make_spec(["a", "b"], 32, 32).to_json()
    onnx.save(model, graph)
    with pytest.raises(ExportError, match="does not run as its spec says"):
        read_spec(graph)
    graph.write_bytes(b"nonsense")
    with pytest.raises(ExportError, match="not an ONNX file"):
        read_spec(graph)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18"])
def test_timm_models_keep_their_answers_in_the_graph(name: str, tmp_path: Path) -> None:
    spec = ModelSpec(
        labels=("a", "b", "c"),
        preprocessing=Preprocessing(height=64, width=96),
        normalisation=Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
    )
    torch.manual_seed(0)
    options = {"pad_type": "same"} if name.startswith("mobilenet") else {}
    classifier = create_model(ModelSettings(name=name, options=options), spec).eval()
    path = tmp_path / "model.onnx"
    module._write_graph(classifier, spec, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), np.uint8)
    (actual,) = ort.InferenceSession(path).run(None, {"image": images})
    with torch.inference_mode():
        expected = classifier(torch.from_numpy(images)).softmax(1).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_what_is_served_is_what_was_trained(run: Run, digits: Path, served: Served) -> None:
    name = served.new_name()
    exported = export(run)
    settings = run.recipe.serving
    served.repository.publish(name, exported.path, run.spec, manifest=describe(run, exported), settings=settings)
    served.control.load(name)
    images = sorted((digits / "test").rglob("*.png"))
    with served.client(name) as client:
        answers = list(client.classify_many(images, top_k=10))
    for answer, wanted in zip(answers, run.predict(images, top_k=10), strict=True):
        assert answer.label == wanted.label
        assert answer.version == 1
        scores = {scored.label: scored.score for scored in answer.top}
        assert scores == pytest.approx({scored.label: scored.score for scored in wanted.top}, abs=1e-4)


def test_the_commands_export_and_publish_into_a_running_server(
    run: Run, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name = served.new_name()
    exported = tamiz("export", run.path, "--json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout.splitlines()[-1])["parity"]["agreeing"] == 216

    where = ["--model", name, "--repository", served.repository.path]
    server = ["--url", served.triton.url, "--key", served.triton.key]
    refused = tamiz("publish", run.path / "model.onnx", *where, *server[:-1], "wrong")
    assert (refused.returncode, refused.stderr.count("wants a key, or another")) == (1, 1)
    assert name not in served.repository.models(), "nothing is published that could not be loaded"
    first = tamiz("publish", run.path / "model.onnx", *where, *server)
    assert first.returncode == 0, first.stderr
    with served.client(name) as client:
        assert client.live_version == 1
        second = tamiz("publish", run.path, *where, *server, "--promote", "--json")
        assert second.returncode == 0, second.stderr
        assert json.loads(second.stdout.splitlines()[-1]) == {"model": name, "version": 2, "live": 2}
        client.refresh()
        assert client.live_version == 2
    third = tamiz("publish", run.path, *where)
    assert f"{name}: version 2 is live" in third.stdout
    versions = Repository(served.repository.path).versions(name)
    assert [version.live for version in versions] == [False, True, False]
    assert versions[1].manifest["run"] == "run"


def test_a_repository_that_cannot_be_written_is_one_line(
    run: Run, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = tamiz("publish", run.path, "--repository", tmp_path / "file")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
