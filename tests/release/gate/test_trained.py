"""The gate on the network of a run: its held-out images, and faults of real exports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tamiz import GateError, UsageError
from tamiz.spec import INPUT_NAME
from tamiz_release import GateReport, ModelSource, folder_images, open_source, run_gate, run_images
from tamiz_release.candidate import Candidate
from tamiz_release.gate import require_passed
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import session_config
from tamiz_train.onnx_export import write_graph
from tamiz_train.run import Run
from tamiz_train.weights import load_classifier

pytestmark = pytest.mark.integration

CONFIG = session_config(ServingSettings(max_batch_size=8))


@pytest.fixture(scope="module")
def graph(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "model.onnx"
    write_graph(load_classifier(trained), trained.spec, path)
    return path


@pytest.fixture(scope="module")
def reference(trained: Run) -> Iterator[ModelSource]:
    with open_source(str(trained.path), Path("none")) as source:
        yield source


@pytest.fixture
def judge(trained: Run, reference: ModelSource) -> Callable[..., GateReport]:
    def measure(path: Path, precision: str = "fp32") -> GateReport:
        candidate = Candidate(path, trained.spec, precision)
        return run_gate(candidate, reference, run_images(trained), model="digits", config=CONFIG)

    return measure


def test_an_export_passes_on_the_test_images_of_its_run(
    judge: Callable[..., GateReport], graph: Path, trained: Run
) -> None:
    report = judge(graph)
    assert report.passed
    assert report.origin == "test images"
    assert report.images == trained.metrics["images"]["test"]
    assert report.metrics["accuracy"] == pytest.approx(trained.metrics["test"]["accuracy"], abs=1e-6)
    assert report.agreement.values[0] == report.agreement.values[1]


@pytest.mark.parametrize("wrong", [{"mean": [0.449]}, {"std": [0.226]}])
def test_a_wrong_mean_or_standard_deviation_is_stopped(
    judge: Callable[..., GateReport], trained: Run, run: Run, tmp_path: Path, wrong: dict[str, list[float]]
) -> None:
    """The values of another data set, in a copy of the run that is exported."""
    spec = json.loads((run.path / "spec.json").read_text())
    spec["normalisation"] |= wrong
    (run.path / "spec.json").write_text(json.dumps(spec))
    classifier = load_classifier(run)
    write_graph(classifier, trained.spec, tmp_path / "model.onnx")
    report = judge(tmp_path / "model.onnx")
    with pytest.raises(GateError, match="nothing was published"):
        require_passed(report, "")
    assert "probability_difference" in {check.name for check in report.failures}


class Pixels(CalibrationDataReader):
    """Calibration images, as ONNX Runtime reads them."""

    def __init__(self, images: np.ndarray) -> None:
        self.feeds = iter([{INPUT_NAME: images}])

    def get_next(self) -> dict | None:
        return next(self.feeds, None)


def quantize(graph: Path, path: Path, images: np.ndarray) -> Path:
    quantize_static(
        graph,
        path,
        Pixels(images),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Gemm", "MatMul", "Clip", "Relu", "Add"],
        extra_options={"WeightSymmetric": True},
    )
    return path


def test_int8_of_real_images_passes_and_of_black_ones_is_stopped(
    judge: Callable[..., GateReport], graph: Path, trained: Run, tmp_path: Path
) -> None:
    images = trained.parity_images[:64]
    good = judge(quantize(graph, tmp_path / "good.onnx", images), "int8")
    assert good.agreement.label_agreement > 0.9
    ruined = judge(quantize(graph, tmp_path / "ruined.onnx", np.zeros_like(images)), "int8")
    assert "accuracy_drop" in {check.name for check in ruined.failures}
    assert ruined.agreement.drop > good.agreement.drop


def test_without_its_data_the_images_that_the_run_keeps_are_used(run: Run) -> None:
    """A run that was copied to a machine without its data."""
    text = (run.path / "recipe.yaml").read_text()
    (run.path / "recipe.yaml").write_text(text.replace(str(run.recipe.data.root), "/nonexistent"))
    copied = Run(run.path)
    images = run_images(copied)
    assert (images.origin, images.labelled) == ("validation images that the run keeps", False)
    assert len(images) == len(copied.parity_images)
    assert "because the data of the run is not here" in images.notes[0]
    (run.path / "parity.safetensors").unlink()
    assert len(run_images(copied)) == 0


def test_the_test_images_of_a_run_are_known_to_be_its_own(trained: Run) -> None:
    images = run_images(trained)
    assert images.contents == trained.contents["test"]
    assert images.notes == ()
    assert not [index for index, seen in enumerate(images.images.among(trained.fitted_images)) if seen]


def test_images_that_the_run_was_trained_on_are_left_out(
    trained: Run, reference: ModelSource, graph: Path, digits: Path, tmp_path: Path
) -> None:
    images = folder_images(digits / "train", trained.spec)
    report = run_gate(Candidate(graph, trained.spec), reference, images, model="digits", config=CONFIG)
    assert report.passed
    assert [note for note in report.notes if "its accuracy is too good" in note]
    # Half of them new: the same digits as other files.
    for image in sorted((digits / "train").rglob("*.png"))[:40]:
        target = tmp_path / image.parent.name / image.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(image, target)
        cv2.imwrite(str(target.with_suffix(".bmp")), cv2.imread(str(image), cv2.IMREAD_GRAYSCALE))
    images = folder_images(tmp_path, trained.spec)
    report = run_gate(Candidate(graph, trained.spec), reference, images, model="digits", config=CONFIG)
    assert report.images == 40
    assert "left out: 40 images that the candidate was trained on" in report.notes


def test_a_folder_without_labels_gives_agreement_alone(
    trained: Run, reference: ModelSource, graph: Path, digits: Path, tmp_path: Path
) -> None:
    for index, image in enumerate(sorted((digits / "test").rglob("*.png"))[:20]):
        shutil.copy(image, tmp_path / f"{index}.png")
    images = folder_images(tmp_path, trained.spec)
    assert not images.labelled
    report = run_gate(Candidate(graph, trained.spec), reference, images, model="digits", config=CONFIG)
    assert (report.agreement.images, report.agreement.metric, report.metrics) == (20, None, {})
    assert "only 20 images: the figures are rough" in report.notes


def test_a_folder_with_some_labels_and_some_others_is_a_usage_error(trained: Run, digits: Path, tmp_path: Path) -> None:
    for label in ("1", "one"):
        (tmp_path / label).mkdir()
        shutil.copy(next((digits / "test").rglob("*.png")), tmp_path / label / "image.png")
    with pytest.raises(UsageError, match="the model does not have the labels one"):
        folder_images(tmp_path, trained.spec)
    with pytest.raises(UsageError, match="no such folder"):
        folder_images(tmp_path / "none", trained.spec)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        folder_images(tmp_path / "empty", trained.spec)
