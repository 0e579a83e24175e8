"""The export of a trained run in each precision, with real searches on small images."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tamiz import ExportError, GateError, UsageError
from tamiz.files import sha256
from tamiz_release import Candidate, GateLimits, PublicationOptions, export_precision
from tamiz_release.graph_publication import publish_graph
from tamiz_release.run_publication import publish_run
from tamiz_server.repository import Repository
from tamiz_train.graph import Graph, read_spec
from tamiz_train.run import Run

SHORT = {"budget_s": 200.0}
LOOSE = GateLimits(accuracy_drop=0.02)
"""One of the 360 test images is more than half of a limit of half a point."""


@pytest.fixture(scope="module")
def exported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was exported in INT8 and FP16; tests must not change it."""
    run = Run(Path(shutil.copytree(trained.path, tmp_path_factory.mktemp("exported") / "run")))
    export_precision(run, "int8", **SHORT)
    export_precision(run, "fp16", **SHORT)
    return run


def report(run: Run, name: str) -> dict:
    return json.loads((run.path / "precision.json").read_text())[name]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_an_export_keeps_the_labels_of_the_run_and_reports_what_was_measured(exported: Run, precision: str) -> None:
    path = exported.path / f"model.{precision}.onnx"
    assert read_spec(path) == exported.spec
    images = exported.parity_images
    assert images is not None
    labels, expected = (Graph(each).probabilities(images).argmax(1) for each in (path, exported.path / "model.onnx"))
    assert np.mean(labels == expected) > 0.97
    document = report(exported, precision)
    assert document["sha256"] == sha256(path)
    assert document["key"]["graph_sha256"] == sha256(exported.path / "model.onnx")
    assert document["images"] == "calibrated on 128 training images; measured on 207 validation images"
    assert set(document["speed_ratios"]) == {"1", "64"}
    assert document["accuracy"]["metric"] == "accuracy"
    assert document["accuracy"]["images"] == 207


def test_int8_loses_no_more_than_allowed_and_quantizes_layers(exported: Run) -> None:
    assert report(exported, "int8")["accuracy"]["loss_points"] <= 0.5
    model = onnx.load(exported.path / "model.int8.onnx")
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    names = {node.name for node in onnx.load(exported.path / "model.onnx").graph.node}
    parts = report(exported, "int8")["float_parts"]
    assert all(part["reason"] and part["nodes"] for part in parts)
    assert {node for part in parts for node in part["nodes"]} <= {*names, *(node.name for node in model.graph.node)}


def test_fp16_keeps_the_probabilities_in_fp32_and_says_why(exported: Run) -> None:
    first = report(exported, "fp16")["float_parts"][0]
    assert (first["name"], first["reason"]) == ("the output", "probabilities have few bits in half precision")
    assert report(exported, "fp16")["accuracy"]["agreement"] == 1
    assert report(exported, "fp16")["bytes"] < (exported.path / "model.onnx").stat().st_size * 0.7


def test_a_run_is_published_in_a_precision_if_it_passes_the_gate(exported: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(exported.path, tmp_path / "run")))
    repository = Repository(tmp_path / "repository")
    publish_run(run, repository, options=PublicationOptions(limits=LOOSE), precision="int8", **SHORT)
    manifest = repository.live_version("digits").manifest
    assert (manifest["precision"], manifest["gate"]["precision"], manifest["gate"]["verdict"]) == (
        "int8",
        "int8",
        "passed",
    )
    assert manifest["onnx_sha256"] == sha256(run.path / "model.int8.onnx")
    assert manifest["gate"]["reference"] == f"digits, {run.path.name}", "the network in PyTorch, not the FP32 graph"
    with pytest.raises(GateError, match="the largest difference of a probability"):
        publish_run(
            run,
            repository,
            options=PublicationOptions(limits=GateLimits(probability_difference=0)),
            precision="int8",
            **SHORT,
        )


def test_a_second_export_searches_nothing_and_needs_neither_images_nor_weights(exported: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(exported.path, tmp_path / "run")))
    before = (run.path / "model.int8.onnx").stat().st_mtime_ns
    lines: list[str] = []
    candidate = export_precision(run, "int8", on_progress=lines.append, **SHORT)
    assert lines[0] == f"{run.path / 'model.int8.onnx'}: found by an earlier search on this machine"
    assert any(line.startswith("beside FP32: ") for line in lines), "the report is printed again"
    assert (run.path / "model.int8.onnx").stat().st_mtime_ns == before
    assert candidate.manifest["precision_report"] == report(run, "int8")


def test_other_weights_or_another_limit_are_searched_again(exported: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(exported.path, tmp_path / "run")))
    lines: list[str] = []
    export_precision(run, "int8", max_loss_points=3.0, on_progress=lines.append, **SHORT)
    assert lines[0].startswith("INT8 of all operators: ")
    assert report(run, "int8")["key"]["max_loss_points"] == 3.0
    model = onnx.load(run.path / "model.onnx")
    model.doc_string = "changed"
    onnx.save(model, run.path / "model.onnx")
    lines.clear()
    export_precision(run, "int8", max_loss_points=3.0, on_progress=lines.append, **SHORT)
    assert "the predicted labels agree on 207 of 207" in lines[0], "the graph is exported again"


def test_the_candidate_says_what_it_is_and_how_it_was_made(exported: Run) -> None:
    candidate = export_precision(exported, "fp16", **SHORT)
    assert isinstance(candidate, Candidate)
    assert (candidate.graph, candidate.precision) == (exported.path / "model.fp16.onnx", "fp16")
    assert (candidate.spec, candidate.settings) == (exported.spec, exported.recipe.serving)
    assert not candidate.accelerators
    assert candidate.manifest["weights_sha256"] == sha256(exported.path / "model.safetensors")
    assert candidate.manifest["parity"]["agreeing"] == 207
    json.dumps(candidate.manifest)


def test_the_graph_for_tensorrt_is_a_file_of_its_own(run: Run) -> None:
    candidate = export_precision(run, "int8", target="tensorrt", **SHORT)
    assert candidate.graph == run.path / "model.int8-tensorrt.onnx"
    assert read_spec(candidate.graph) == run.spec
    assert report(run, "int8-tensorrt")["speed_ratios"] == {}
    assert report(run, "int8-tensorrt")["setting"]["symmetric"] is True
    assert not (run.path / "model.int8.onnx").exists()
    (accelerator,) = candidate.accelerators["gpu_execution_accelerator"]
    assert accelerator["parameters"]["precision_mode"] == "INT8"
    repository = Repository(run.path / "models")
    publish_run(
        run,
        repository,
        options=PublicationOptions(limits=LOOSE),
        precision="int8",
        target="tensorrt",
        engine_cache="/cache",
        **SHORT,
    )
    manifest = repository.live_version("digits").manifest
    assert manifest["onnx_sha256"] == sha256(candidate.graph)
    assert manifest["accelerators"]["gpu_execution_accelerator"][0]["parameters"]["trt_engine_cache_path"] == "/cache"
    assert (manifest["gate"]["verdict"], manifest["gate"]["latency"]) == ("passed on the CPU alone", None)
    assert "has no TensorrtExecutionProvider" in manifest["gate"]["not_run"]


def test_fp16_is_the_same_graph_for_tensorrt_with_other_accelerators(exported: Run, tmp_path: Path) -> None:
    lines: list[str] = []
    candidate = export_precision(exported, "fp16", target="tensorrt", on_progress=lines.append, **SHORT)
    assert candidate.graph == exported.path / "model.fp16.onnx"
    assert lines[0].endswith("found by an earlier search on this machine")
    (accelerator,) = candidate.accelerators["gpu_execution_accelerator"]
    assert accelerator["parameters"]["trt_profile_max_shapes"] == "image:64x28x28x1"
    # A file is published like a run, with the batch size of a model whose recipe is unknown.
    repository = Repository(tmp_path / "models")
    publish_graph(
        exported.path / "model.fp16.onnx",
        repository,
        "digits",
        options=PublicationOptions(limits=LOOSE),
        target="tensorrt",
    )
    (published,) = repository.live_version("digits").manifest["accelerators"]["gpu_execution_accelerator"]
    assert published["parameters"]["trt_profile_max_shapes"] == "image:16x28x28x1"


def test_a_graph_that_tensorrt_cannot_compute_is_not_published_for_it(exported: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    with pytest.raises(UsageError, match=r"model.int8.onnx: target tensorrt: the zero point .* is of type U?INT"):
        publish_graph(exported.path / "model.int8.onnx", repository, "digits", target="tensorrt")
    with pytest.raises(UsageError, match="target tensorrt: the precision is fp32; give fp16 or int8"):
        publish_graph(exported.path / "model.onnx", repository, "digits", target="tensorrt")
    assert not repository.path.exists()


def test_without_the_data_of_the_run_a_line_warns_and_the_kept_images_are_used(run: Run, tmp_path: Path) -> None:
    recipe = run.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(run.recipe.data.root), str(tmp_path / "none")))
    lines: list[str] = []
    export_precision(Run(run.path), "fp16", on_progress=lines.append, **SHORT)
    (warning,) = (line for line in lines if line.startswith("warning: the data of the run is not on this machine"))
    assert "\n" not in warning
    assert report(run, "fp16")["accuracy"]["metric"] is None
    assert "validation images that the run keeps" in report(run, "fp16")["images"]


def test_a_search_without_time_is_an_error_with_the_remedy_and_leaves_no_graph(run: Run) -> None:
    with pytest.raises(ExportError, match=r"no INT8 graph was found in \d+ s that loses at most 0 points.*--budget"):
        # Nothing is this good at once, since the agreement of a graph is not measured in time.
        export_precision(spoiled(run), "int8", budget_s=1e-3, max_loss_points=0.0)
    assert not (run.path / "model.int8.onnx").exists()


def spoiled(run: Run) -> Run:
    """The same run with weights of which one is so large that INT8 has no bits for the others."""
    from safetensors.numpy import load_file, save_file

    path = run.path / "model.safetensors"
    weights = load_file(path)
    for name, weight in weights.items():
        if weight.ndim > 1:
            weights[name] = weight + 0
            weights[name].reshape(len(weight), -1)[:, 0] *= 300
    save_file(weights, path)
    return run


def test_an_int8_graph_is_published_like_any_other(exported: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    publish_graph(exported.path / "model.int8.onnx", repository, "digits")
    assert repository.live_version("digits").spec == exported.spec


def test_auto_measures_all_graphs_and_takes_the_fastest_that_keeps_the_accuracy(exported: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(exported.path, tmp_path / "run")))
    lines: list[str] = []
    candidate = export_precision(run, "auto", on_progress=lines.append, **SHORT)
    choice = report(run, "auto")
    assert {each["precision"] for each in choice["options"]} == {"fp32", "int8", "fp16"}
    (chosen,) = (each for each in choice["options"] if each["refused"] is None)
    assert (candidate.precision, candidate.manifest["precision_choice"]) == (chosen["precision"], choice)
    name = "model.onnx" if candidate.precision == "fp32" else f"model.{candidate.precision}.onnx"
    assert candidate.graph == run.path / name
    assert choice["sha256"] == sha256(candidate.graph)
    assert lines.count("measuring the graphs side by side") == 1
    assert lines[-1] == f"fastest on this machine: {chosen['precision']} in {chosen['runtime']}"

    lines.clear()
    assert export_precision(run, "auto", on_progress=lines.append, **SHORT) == candidate
    assert "measuring the graphs side by side" not in lines, "the same run is not measured twice"
    repository = Repository(tmp_path / "repository")
    publish_run(run, repository, options=PublicationOptions(limits=LOOSE), precision="auto", **SHORT)
    manifest = repository.live_version("digits").manifest
    assert (manifest["precision"], manifest["precision_choice"]) == (candidate.precision, choice)


def test_auto_goes_on_without_a_precision_that_is_not_found_and_says_why(run: Run) -> None:
    candidate = export_precision(spoiled(run), "auto", budget_s=1e-3, max_loss_points=0.0)
    refusals = {each["precision"]: each["refused"] for each in report(run, "auto")["options"]}
    assert "no INT8 graph was found" in refusals["int8"]
    assert candidate.precision != "int8"
    assert not report(run, "auto")["complete"], "more time may find it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "precision: 'int4' (str); give 'fp32' or 'fp16' or 'int8' or 'auto'"),
        ({"precision": "int8", "target": "tpu"}, "target: 'tpu' (str); give 'cpu' or 'tensorrt'"),
        ({"precision": "fp32", "target": "tensorrt"}, "target tensorrt: the precision is fp32; give fp16 or int8"),
        ({"precision": "auto", "target": "tensorrt"}, "target tensorrt: the precision is auto; give fp16 or int8"),
        ({"precision": "fp16", "engine_cache": "/cache"}, "engine_cache: only the target tensorrt has engines"),
        ({"precision": "fp16", "target": "tensorrt", "engine_cache": "x"}, "engine cache x: give an absolute path"),
        ({"precision": "int8", "budget_s": 0.0}, "budget_s: 0.0 (float); give a finite number of seconds"),
        ({"precision": "int8", "budget_s": float("nan")}, "budget_s: nan (float); give a finite number of seconds"),
        ({"precision": "int8", "max_loss_points": -1.0}, "max_loss_points: -1.0 (float); give a number of points"),
        ({"precision": "int8", "max_loss_points": "0"}, "max_loss_points: '0' (str); give a number of points"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(run: Run, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        export_precision(run, **arguments)


def test_a_path_instead_of_a_run_is_an_error_that_names_the_argument(run: Run) -> None:
    with pytest.raises(UsageError, match=r"run: a value of type .*; give a tamiz_train.Run"):
        export_precision(run.path, "int8")  # type: ignore[arg-type]


def test_the_command_exports_each_precision_and_prints_the_next_step(
    run: Run, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = tamiz("export", run.path, "--precision", "fp16", "--budget", "60")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == f"next: tamiz publish {run.path} --precision fp16"
    assert any(line.startswith("in FP32: the output") for line in lines)
    again = tamiz("export", run.path, "--precision", "fp16", "--json")
    document = json.loads(again.stdout.splitlines()[-1])
    assert (document["path"], document["precision"]) == (str(run.path / "model.fp16.onnx"), "fp16")
    assert document["report"] == report(run, "fp16")
    assert document["accelerators"] == {}
    wrong = tamiz("export", run.path, "--target", "tensorrt")
    assert wrong.returncode == 2
    assert "target tensorrt: the precision is fp32; give fp16 or int8" in wrong.stderr
    gpu = tamiz("export", run.path, "--precision", "fp16", "--target", "tensorrt")
    assert gpu.stdout.splitlines()[-1] == f"next: tamiz publish {run.path} --precision fp16 --target tensorrt"


def test_what_was_exported_with_another_loss_is_published_without_another_search(
    exported: Run, tmp_path: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    run = Path(shutil.copytree(exported.path, tmp_path / "run"))
    options = ["--precision", "int8", "--max-loss", "2"]
    done = tamiz("export", run, *options, "--budget", "20")
    assert done.stdout.splitlines()[-1] == f"next: tamiz publish {run} --precision int8 --max-loss 2"
    limits = ["--limit", "accuracy_drop=0.1", "--limit", "calibration_increase=1"]
    place = ["--repository", tmp_path / "models", "--budget", "20"]
    for arguments in (["publish", run, *place], ["release", run, *place]):
        done = tamiz(*arguments, *options, *limits)
        assert done.returncode == 0, done.stderr
        assert f"{run / 'model.int8.onnx'}: found by an earlier search on this machine" in done.stdout
