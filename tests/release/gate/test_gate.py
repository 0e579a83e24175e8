"""The gate, on real graphs: what it lets pass, and the faults that it must stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import make_spec, write_colour_graph
from onnx import helper, numpy_helper

from tamiz import ExportError, GateError, ModelSpec
from tamiz_release import GateImages, GateLimits, GateReport, open_source, run_gate
from tamiz_release.candidate import Candidate
from tamiz_release.gate import LiveModel, require_passed
from tamiz_release.gate.overflow import find_overflows
from tamiz_release.sources.onnx_file import OnnxSource
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import find_missing_gpu, open_serving_session, session_config
from tamiz_train.data.content import content_hashes
from tamiz_train.labelled_images import LabelledImages

COLOURS = ["red", "green", "blue"]
SPEC = make_spec(COLOURS, height=8, width=8, colour="RGB")
CONFIG = session_config(ServingSettings(max_batch_size=8, micro_batch_size=2))


def colour_images(count: int = 90, *, labelled: bool = True) -> GateImages:
    """Noise in which the channel of the label is brighter than the others."""
    random = np.random.default_rng(1)
    images = []
    for index in range(count):
        pixels = random.integers(0, 160, (8, 8, 3)).astype(np.uint8)
        pixels[..., index % 3] += 60
        images.append(pixels)
    labels = [(COLOURS[index % 3],) if labelled else () for index in range(count)]
    return GateImages("test images", LabelledImages("test", images, labels), labelled)


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., GateReport]:
    """Measures a graph against the colour graph that is right."""
    original = write_colour_graph(tmp_path / "original.onnx", SPEC)
    (tmp_path / "original.spec.json").write_text(SPEC.to_json())

    def measure(
        graph: Path,
        *,
        spec: ModelSpec = SPEC,
        precision: str = "fp32",
        images: GateImages | None = None,
        accelerators: dict | None = None,
        config: dict = CONFIG,
        **options: object,
    ) -> GateReport:
        with open_source(str(original), tmp_path / "none") as reference:
            return run_gate(
                Candidate(graph, spec, precision, accelerators or {}),
                reference,
                colour_images() if images is None else images,
                model="colours",
                config=config,
                **options,
            )

    return measure


def failed(report: GateReport) -> set[str]:
    return {check.name for check in report.failures}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_graph_that_computes_what_its_reference_computes_passes(
    judge: Callable[..., GateReport], tmp_path: Path, precision: str
) -> None:
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC, half=precision == "fp16"), precision=precision)
    assert report.passed, report.failures
    assert report.verdict == "passed"
    assert (report.images, report.metrics["accuracy"], report.agreement.label_agreement) == (90, 1.0, 1.0)
    assert report.latency.best_batch in (1, 2, 4, 8)
    require_passed(report, "nothing to do")


def test_swapped_labels_are_stopped(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    swapped = SPEC.model_copy(update={"labels": ("green", "red", "blue")})
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC), spec=swapped)
    assert "label_agreement" in failed(report)
    assert report.agreement.agreeing == 30


def test_the_report_has_the_metrics_of_each_label_and_the_confusion_matrix(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC, channels=(1, 0, 2)))
    assert [(each.label, each.recall, each.support) for each in report.classes] == [
        ("red", 0.0, 30),
        ("green", 0.0, 30),
        ("blue", 1.0, 30),
    ]
    assert report.to_dict()["confusion_matrix"] == [[0, 1, 30], [1, 0, 30], [2, 2, 30]]


def test_labels_in_another_order_pass_if_the_outputs_have_that_order_too(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    ordered = SPEC.model_copy(update={"labels": ("green", "red", "blue")})
    assert judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC, channels=(1, 0, 2)), spec=ordered).passed


def test_other_labels_are_stopped(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    other = SPEC.model_copy(update={"labels": ("red", "green", "violet")})
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC), spec=other)
    assert failed(report) == {"labels"}
    assert "other labels: blue, violet" in report.failures[0].text


def test_bgr_in_place_of_rgb_is_stopped(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC, channels=(2, 1, 0)))
    assert "label_agreement" in failed(report)


def test_another_scale_of_the_pixels_is_stopped_although_every_label_agrees(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC, gain=5))
    assert report.agreement.label_agreement == 1
    assert failed(report) == {"probability_difference", "calibration_increase"}


@pytest.mark.parametrize("labelled", [True, False])
def test_an_overflowing_weight_in_fp16_is_stopped(
    judge: Callable[..., GateReport], tmp_path: Path, labelled: bool
) -> None:
    with np.errstate(over="ignore"):
        graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC, gain=100_000, half=True)
    report = judge(graph, precision="fp16", images=colour_images(labelled=labelled))
    assert {"finite", "overflow", "label_agreement"} <= failed(report)
    assert report.checks[0].text.startswith("probabilities are NaN or infinite for 90 of 90 images")


def test_an_overflowing_layer_in_fp16_is_stopped_although_a_cpu_hides_it(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    """ONNX Runtime computes the two multiplications on a CPU in float32, whose numbers do not overflow."""
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC, gain=1_000, half=True)
    report = judge(graph, precision="fp16", limits=GateLimits(probability_difference=1))
    assert failed(report) == {"overflow"}
    assert report.failures[0].text == "activations overflow in FP16: gained; none may"


def test_the_type_of_an_activation_that_is_not_in_the_graph_is_ignored(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    path = write_colour_graph(tmp_path / "candidate.onnx", SPEC, half=True)
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("removed", onnx.TensorProto.FLOAT16, ["batch", 3]))
    onnx.save(model, path)
    assert judge(path, precision="fp16").passed


def add_unknown_type(path: Path) -> Path:
    """Multiply and divide again where ONNX does not know the type, because an operator is not one of its own."""
    model = onnx.load(path)
    (last,) = (node for node in model.graph.node if node.output[0] == "logits")
    position = list(model.graph.node).index(last)
    nodes = [
        helper.make_node("QuickGelu", [last.input[0]], ["gelu"], domain="com.microsoft"),
        helper.make_node("Mul", ["gelu", "large"], ["multiplied"]),
        helper.make_node("Mul", ["multiplied", "small"], ["divided"]),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(position, node)
    for name, value in (("large", 60_000), ("small", 1 / 60_000)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float16), name))
    last.input[0] = "divided"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    return path


def test_activations_whose_type_onnx_cannot_infer_are_checked_too(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    path = add_unknown_type(write_colour_graph(tmp_path / "candidate.onnx", SPEC, gain=10, half=True))
    report = judge(path, precision="fp16", limits=GateLimits(label_agreement=0, probability_difference=1))
    (check,) = (check for check in report.checks if check.name == "overflow")
    assert check.text.startswith("activations overflow in FP16: multiplied")


def add_branch(path: Path) -> Path:
    """Compute the last layer in a branch of the graph, whose activations cannot be outputs."""
    model = onnx.load(path)
    (last,) = (node for node in model.graph.node if node.output[0] == "logits")
    position = list(model.graph.node).index(last)
    half, value = onnx.TensorProto.FLOAT16, helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Identity", [last.input[0]], ["same"])], "branch", [], [value("same", half, None)]
    )
    model.graph.node.insert(
        position, helper.make_node("If", ["always"], ["chosen"], then_branch=branch, else_branch=branch)
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    last.input[0] = "chosen"
    onnx.save(model, path)
    return path


def test_activations_that_cannot_be_checked_are_counted(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    path = add_branch(write_colour_graph(tmp_path / "candidate.onnx", SPEC, half=True))
    report = judge(path, precision="fp16")
    (check,) = (check for check in report.checks if check.name == "overflow")
    assert check.passed
    assert check.text == "no activation overflows in FP16; 2 inside of branches and loops could not be checked"


def test_a_graph_that_cannot_be_examined_for_overflow_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ExportError, match="its activations cannot be computed"):
        find_overflows(tmp_path / "model.onnx", SPEC, None)


def fix_batch(path: Path) -> Path:
    """Write the batch size 1 into the input of a graph, as exporters without dynamic shapes do."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    return path


def freeze_inside(path: Path) -> Path:
    """Reshape to one row inside a graph whose input says that it takes batches of any size."""
    model = onnx.load(path)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    position = list(model.graph.node).index(softmax)
    model.graph.node.insert(position, helper.make_node("Reshape", [softmax.input[0], "one_row"], ["row"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3]), "one_row"))
    softmax.input[0] = "row"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("freeze", "reason"), [(fix_batch, "its batch size is fixed at 1"), (freeze_inside, "cannot compute a batch of 2")]
)
def test_a_graph_that_is_frozen_at_batch_1_is_stopped(
    judge: Callable[..., GateReport], tmp_path: Path, freeze: Callable[[Path], Path], reason: str
) -> None:
    report = judge(freeze(write_colour_graph(tmp_path / "candidate.onnx", SPEC)))
    assert failed(report) == {"served"}
    assert reason in report.failures[0].text


def test_a_graph_that_mixes_the_images_of_a_batch_is_stopped(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    path = write_colour_graph(tmp_path / "candidate.onnx", SPEC, gain=100)
    model = onnx.load(path)
    (mean,) = (node for node in model.graph.node if node.op_type == "ReduceMean")
    # The mean over the batch is subtracted from each image.
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "batch_axis"))
    mean.output[0] = "own"
    position = list(model.graph.node).index(mean) + 1
    model.graph.node.insert(position, helper.make_node("ReduceMean", ["own", "batch_axis"], ["of_batch"]))
    model.graph.node.insert(position + 1, helper.make_node("Sub", ["own", "of_batch"], ["means"]))
    onnx.save(model, path)
    report = judge(path)
    assert failed(report) == {"served"}
    assert "depends on the other images" in report.failures[0].text


def test_a_setting_that_this_machine_cannot_honour_is_stopped_with_the_reason(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    accelerators = {"cpu_execution_accelerator": [{"name": "openvino"}]}
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)

    # As `open_serving_session` does on a processor for which OpenVINO has no device, wherever this test runs.
    def refuse(path: Path, config: object, *, gpu: int | None = None) -> None:
        raise ExportError("OpenVINO offers no CPU of this machine")

    report = run_gate(
        Candidate(graph, SPEC, "int8", accelerators),
        None,
        None,
        model="colours",
        config=CONFIG,
        open_session=refuse,
    )
    assert failed(report) == {"served"}
    assert "offers no CPU" in report.failures[0].text
    assert report.candidate.endswith("(int8, openvino)")


TENSORRT = {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": {"precision_mode": "INT8"}}]}


@pytest.fixture
def no_tensorrt() -> None:
    if find_missing_gpu(session_config(ServingSettings(), TENSORRT)) is None:
        pytest.skip("this machine runs TensorRT")


@pytest.mark.usefixtures("no_tensorrt")
def test_a_session_that_this_machine_cannot_run_is_not_claimed_to_be_checked(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    config = session_config(ServingSettings(max_batch_size=8), TENSORRT)
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    report = judge(graph, precision="int8", accelerators=TENSORRT, config=config)
    assert report.passed
    assert report.verdict == "passed on the CPU alone"
    assert report.not_run == "tensorrt: this ONNX Runtime has no TensorrtExecutionProvider"
    assert report.agreement.label_agreement == 1.0, "what the graph computes is measured"
    assert report.latency is None, "the speed of a CPU says nothing"
    names = {check.name for check in report.checks}
    assert "computed" in names
    assert not names & {"served", "slowdown"}
    assert report.to_dict()["not_run"] == report.not_run
    assert f"the session that serves was not run, and its latency was not judged: {report.not_run}" in report.summary()


@pytest.mark.usefixtures("no_tensorrt")
def test_a_wrong_graph_is_stopped_where_the_session_that_serves_cannot_be_run(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    config = session_config(ServingSettings(max_batch_size=8), TENSORRT)
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC, channels=(2, 1, 0))
    report = judge(graph, precision="int8", accelerators=TENSORRT, config=config)
    assert "label_agreement" in failed(report) or "accuracy_drop" in failed(report)
    assert report.verdict == "failed"


@pytest.mark.usefixtures("no_tensorrt")
def test_beside_a_live_version_only_sessions_that_are_run_are_timed(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    on_gpu, on_cpu = (session_config(ServingSettings(max_batch_size=8), each) for each in (TENSORRT, {}))
    limits = GateLimits(slowdown=1e-6)
    report = judge(graph, config=on_gpu, live=LiveModel(1, graph, SPEC, on_cpu, frozenset()), limits=limits)
    assert report.passed
    assert (report.latency, report.live.latency) == (None, None)
    assert report.live.comparison is not None
    report = judge(graph, config=on_cpu, live=LiveModel(1, graph, SPEC, on_gpu, frozenset()), limits=limits)
    assert report.passed
    assert (report.latency is None, report.live.latency) == (False, None)
    (note,) = (note for note in report.notes if note.startswith("the live version 1"))
    assert note.startswith("the live version 1 was measured on the CPU, and not its latency: tensorrt: this ONNX")


class WrongSession:
    """A session in which the last layer has another weight than the file.

    It stands for OpenVINO's INT8 kernels, which gave another answer than ONNX Runtime's for the same file; OpenVINO has
    no device on AMD processors, where these tests must run too. The gate gets it by the argument that opens sessions.
    """

    def __init__(self, path: Path, config: object, *, gpu: int | None = None) -> None:
        model = onnx.load(path)
        (gain,) = (each for each in model.graph.initializer if each.name == "channels")
        gain.CopyFrom(numpy_helper.from_array(np.array([0, 2, 2]), "channels"))
        wrong = path.with_suffix(".wrong.onnx")
        onnx.save(model, wrong)
        self.session = open_serving_session(wrong, CONFIG)

    def get_inputs(self) -> list:
        return self.session.get_inputs()

    def run(self, outputs: list[str], feed: dict) -> list:
        return self.session.run(outputs, feed)


def test_a_runtime_that_computes_int8_wrongly_is_stopped(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    assert judge(graph, precision="int8").passed
    report = judge(graph, precision="int8", open_session=WrongSession)
    assert "accuracy_drop" in failed(report)


def test_without_labels_each_changed_label_may_be_lost_accuracy(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    images = colour_images(labelled=False)
    assert judge(graph, precision="int8", images=images).passed
    report = judge(graph, precision="int8", images=images, open_session=WrongSession)
    assert failed(report) == {"accuracy_drop"}
    assert report.failures[0].text.startswith("without labels, up to ")
    assert report.metrics == {}


def test_the_error_names_the_first_limit_and_counts_the_others(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC, channels=(2, 1, 0)))
    with pytest.raises(GateError) as raised:
        require_passed(report, "see gate.html")
    message = str(raised.value)
    assert message.startswith(
        "colours: nothing was published: the gate failed: label agreement with the reference is 0."
    )
    assert "(30 of 90 images); the limit is at least 1 (and 2 more: probability_difference, calib" in message
    assert message.endswith("; see gate.html")
    assert "\n" not in message


def live_model(graph: Path, **options: object) -> LiveModel:
    return LiveModel(7, graph, SPEC, CONFIG, **options)


def test_a_candidate_that_is_worse_than_the_live_version_is_stopped(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    candidate = write_colour_graph(tmp_path / "candidate.onnx", SPEC, channels=(0, 2, 2))
    live = live_model(write_colour_graph(tmp_path / "live.onnx", SPEC), fitted=frozenset())
    limits = GateLimits(label_agreement=0, probability_difference=1, calibration_increase=1)
    report = judge(candidate, live=live, limits=limits)
    assert failed(report) == {"live_drop"}
    assert report.live.comparison.difference < -0.2
    assert not judge(candidate, live=live, limits=GateLimits(**limits.model_dump() | {"live_drop": 1})).failures


def test_a_candidate_as_good_as_the_live_version_passes_and_both_are_timed(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    report = judge(graph, live=live_model(graph, fitted=frozenset()))
    assert report.passed
    assert report.live.comparison.table == (90, 0, 0, 0)
    assert report.live.latency.one_ms > 0
    assert report.live.size == report.size
    assert not [note for note in report.notes if "live" in note]


def test_images_that_the_live_version_was_trained_on_are_not_compared(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    images = colour_images()
    seen = frozenset(content_hashes(images.images.images[:40]))
    report = judge(graph, images=images, live=live_model(graph, fitted=seen))
    assert (report.images, report.live.comparison.count) == (90, 50)
    assert "not compared with the live version on 40 images that one of the two was trained on" in report.notes
    everything = frozenset(content_hashes(images.images.images))
    report = judge(graph, images=images, live=live_model(graph, fitted=everything))
    assert report.passed
    assert "each image was used to train one of the two" in report.live.reason


def test_a_live_version_of_unknown_training_images_is_compared_with_a_note(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    report = judge(graph, live=live_model(graph))
    assert report.live.comparison.count == 90
    assert [note for note in report.notes if "may have seen these" in note]


def test_a_damaged_live_version_does_not_stop_a_candidate(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    (tmp_path / "live.onnx").write_bytes(b"damaged")
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC), live=live_model(tmp_path / "live.onnx"))
    assert report.passed
    assert report.live.reason == "the live version cannot be loaded on this machine"


def test_limits_of_speed_and_size_are_relative_to_the_live_version(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    live = live_model(graph, fitted=frozenset())
    assert failed(judge(graph, live=live, limits=GateLimits(slowdown=0.01, growth=0.5))) == {"slowdown", "growth"}
    assert judge(graph, live=live, limits=GateLimits(slowdown=100, growth=1)).passed


def test_the_number_of_images_is_bounded(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC), limits=GateLimits(images=30))
    assert report.images == 30
    assert "measured on 30 of 90 images; --limit images=90 takes all" in report.notes


def seen_images(indices: Iterable[int], count: int = 90) -> frozenset[bytes]:
    images = colour_images(count).images.images
    return frozenset(content_hashes([images[index] for index in indices]))


@pytest.mark.parametrize("count", [1, 7, 30])
def test_of_many_images_those_that_the_candidate_has_not_seen_are_measured(
    judge: Callable[..., GateReport], tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = range(1, 1 + 3 * count, 3)
    fitted = seen_images(set(range(90)) - set(unseen))
    monkeypatch.setattr(OnnxSource, "fitted_images", fitted, raising=False)
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC), limits=GateLimits(images=10))
    assert report.images == min(10, count)
    assert not [note for note in report.notes if "too good" in note]


def test_images_that_the_live_version_has_not_seen_either_are_measured_first(
    judge: Callable[..., GateReport], tmp_path: Path
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    live = live_model(graph, fitted=seen_images(set(range(90)) - {1, 2, 77}))
    report = judge(graph, live=live, limits=GateLimits(images=10))
    assert (report.images, report.live.comparison.count) == (10, 3)


def test_images_that_cannot_be_read_are_no_evidence(judge: Callable[..., GateReport], tmp_path: Path) -> None:
    paths = [tmp_path / "none.png"] * 3
    images = GateImages("test images", LabelledImages("test", paths, [("red",)] * 3))
    report = judge(write_colour_graph(tmp_path / "candidate.onnx", SPEC), images=images)
    assert failed(report) == {"images"}


NOTHING = GateImages("no images", LabelledImages("none", [], []), labelled=False, notes=("there are no images: gone",))


@pytest.mark.parametrize("images", [None, NOTHING])
@pytest.mark.parametrize("has_reference", [True, False])
def test_without_images_an_fp32_graph_is_not_called_passed(
    tmp_path: Path, images: GateImages | None, has_reference: bool
) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    (tmp_path / "candidate.spec.json").write_text(SPEC.to_json())
    reference = OnnxSource(graph) if has_reference else None
    report = run_gate(Candidate(graph, SPEC), reference, images, model="colours", config=CONFIG)
    assert (report.verdict, report.passed, report.failures) == ("not measured", False, ())
    assert report.not_measured == "there are no images; measure it with --images FOLDER"
    assert report.summary()[0] == f"not measured: {report.not_measured}"
    require_passed(report, "it is published all the same")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_graph_of_lower_precision_that_was_not_measured_is_stopped(tmp_path: Path, precision: str) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC, half=precision == "fp16")
    report = run_gate(Candidate(graph, SPEC, precision), None, None, model="colours", config=CONFIG)
    assert (report.verdict, failed(report)) == ("failed", {"measured"})
    with pytest.raises(GateError, match=f"what {precision.upper()} loses is unknown: there are no images; measure it"):
        require_passed(report, "see gate.html")


def test_images_without_labels_and_without_a_reference_measure_nothing(tmp_path: Path) -> None:
    graph = write_colour_graph(tmp_path / "candidate.onnx", SPEC)
    unlabelled = colour_images(labelled=False)
    report = run_gate(Candidate(graph, SPEC), None, unlabelled, model="colours", config=CONFIG)
    assert (report.verdict, report.images) == ("not measured", 90)
    assert "the images have no labels, and there is no reference" in report.not_measured
    labelled = run_gate(Candidate(graph, SPEC, "int8"), None, colour_images(), model="colours", config=CONFIG)
    assert (labelled.verdict, labelled.not_measured, labelled.metrics["accuracy"]) == ("passed", None, 1.0)
