"""Accelerators in config.pbtxt: those of the version that is live, unless an operator wrote others."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError, TritonError
from tamiz_server.accelerators import read_largest_batches
from tamiz_server.config import ServingSettings
from tamiz_server.promotion import apply_settings, promote, rollback
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout
from tamiz_server.triton import Triton
from tamiz_server.triton_faults import setting_warnings

SPEC = make_spec(["a", "b"])
OPENVINO = {"cpu_execution_accelerator": [{"name": "openvino"}]}
TENSORRT = {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": {"trt_engine_cache_enable": "1"}}]}


def tensorrt(optimum: int, largest: int) -> dict:
    """Accelerators with an engine for batches of 1 to the largest."""
    shapes = {"min": 1, "opt": optimum, "max": largest}
    parameters = {f"trt_profile_{name}_shapes": f"image:{size}x28x28x1" for name, size in shapes.items()}
    return {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": parameters}]}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with a version for each kind of accelerators; the first one, of OpenVINO, is live."""
    repository = Repository(tmp_path / "models")
    graph = write_grey_graph(tmp_path / "graph.onnx", SPEC)
    for accelerators in (OPENVINO, {}, TENSORRT):
        repository.publish("pets", graph, SPEC, manifest={"accelerators": accelerators})
    repository.publish("pets", graph, SPEC)
    return repository


def configured(repository: Repository) -> dict:
    document = MessageToDict(repository.config("pets"), preserving_proto_field_name=True)
    return document.get("optimization", {}).get("execution_accelerators", {})


def test_the_live_version_has_its_accelerators_in_the_configuration(repository: Repository) -> None:
    assert configured(repository) == OPENVINO
    promote(repository, "pets", 3)
    assert configured(repository) == TENSORRT
    promote(repository, "pets", 2)
    assert configured(repository) == {}
    rollback(repository, "pets")
    assert configured(repository) == TENSORRT
    promote(repository, "pets", 4)
    assert configured(repository) == {}


def test_accelerators_that_an_operator_wrote_stay(repository: Repository) -> None:
    promote(repository, "pets", 2)
    path = repository.path / "pets" / "config.pbtxt"
    path.write_text(
        path.read_text()
        + 'optimization { execution_accelerators { cpu_execution_accelerator: [ { name: "openvino" } ] } }\n'
    )
    promote(repository, "pets", 3)
    assert configured(repository) == OPENVINO


def test_other_optimizations_stay(repository: Repository) -> None:
    path = repository.path / "pets" / "config.pbtxt"
    text = path.read_text()
    assert "optimization {" in text
    path.write_text(text.replace("optimization {", "optimization {\n  graph { level: 1 }", 1))
    promote(repository, "pets", 2)
    assert repository.config("pets").optimization.graph.level == 1
    assert configured(repository) == {}


@pytest.mark.parametrize("accelerators", [{"cpu": "openvino"}, "tensorrt"])
def test_what_triton_does_not_know_is_no_accelerator(accelerators: object, tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "graph.onnx", SPEC)
    repository = Repository(tmp_path / "models")
    with pytest.raises(RepositoryError, match="not those of Triton"):
        repository.publish("pets", graph, SPEC, manifest={"accelerators": accelerators})
    assert repository.models() == []


def kinds(repository: Repository) -> list[str]:
    groups = MessageToDict(repository.config("pets"), preserving_proto_field_name=True)["instance_group"]
    return [group.get("kind", "KIND_AUTO") for group in groups]


def test_a_version_that_a_gpu_accelerates_runs_on_gpus_alone_and_the_next_one_wherever_triton_likes(
    repository: Repository,
) -> None:
    assert kinds(repository) == ["KIND_AUTO"]
    promote(repository, "pets", 3)
    assert kinds(repository) == ["KIND_GPU"]
    rollback(repository, "pets")
    assert kinds(repository) == ["KIND_AUTO"]


def test_a_first_version_that_a_gpu_accelerates_runs_on_gpus_alone(tmp_path: Path) -> None:
    assert kinds(publish(tmp_path, TENSORRT)) == ["KIND_GPU"]


def test_the_engine_ends_at_the_largest_batch_of_the_configuration(tmp_path: Path) -> None:
    repository = publish(tmp_path, tensorrt(64, 64))
    assert configured(repository) == tensorrt(16, 16)
    apply_settings(repository, "pets", ServingSettings(max_batch_size=32))
    assert configured(repository) == tensorrt(32, 32)
    publish(tmp_path, {})
    promote(repository, "pets", 2)
    assert configured(repository) == {}
    rollback(repository, "pets")
    assert configured(repository) == tensorrt(32, 32)


def test_an_optimum_that_an_operator_wrote_stays_while_the_engine_includes_it(tmp_path: Path) -> None:
    repository = publish(tmp_path, tensorrt(16, 16))
    edit(repository, 'value: "image:16x28x28x1"', 'value: "image:8x28x28x1"', "trt_profile_opt_shapes")
    assert configured(repository) == tensorrt(8, 16)
    apply_settings(repository, "pets", ServingSettings(max_batch_size=32))
    assert configured(repository) == tensorrt(8, 32)
    apply_settings(repository, "pets", ServingSettings(max_batch_size=4))
    assert configured(repository) == tensorrt(4, 4)


def test_a_batch_size_that_an_operator_wrote_without_the_engine_is_warned_of_and_hides_no_version(
    tmp_path: Path,
) -> None:
    repository = publish(tmp_path, tensorrt(16, 16))
    edit(repository, "max_batch_size: 16", "max_batch_size: 64")
    config = repository.config("pets")
    assert read_largest_batches(config) == [16]
    (warning,) = setting_warnings(config, "2.70.0")
    assert warning == (
        "trt_profile_max_shapes: the engine of TensorRT is for batches of at most 16, and max_batch_size is 64, so "
        "larger batches fail; give both the same number"
    )
    publish(tmp_path, {})
    promote(repository, "pets", 2)
    assert configured(repository) == {}


def test_a_candidate_whose_engine_was_published_for_another_batch_size_fits_beside_the_live_version(
    tmp_path: Path,
) -> None:
    repository = publish(tmp_path, tensorrt(16, 16))
    publish(tmp_path, tensorrt(64, 64))
    start_rollout(repository, "pets", 2, shadow=0.1)
    assert repository.rollout("pets") is not None
    assert configured(repository) == tensorrt(16, 16)


@pytest.mark.integration
def test_the_embedded_server_refuses_tensorrt_without_a_gpu_in_one_line_with_the_remedy(tmp_path: Path) -> None:
    if has_gpu():
        pytest.skip("this machine has a GPU")
    repository = publish(tmp_path, TENSORRT)
    with pytest.raises(TritonError) as refused, Triton(repository.path, log=tmp_path / "triton.log"):
        pass
    message = str(refused.value)
    assert message.startswith("Triton did not load model pets version 1: ")
    assert "kind KIND_GPU but no GPUs are available; serve it on a machine with a GPU, or promote a version" in message
    assert "\n" not in message
    # An operator who lets Triton choose the device gets no other computation than the configured one either.
    edit(repository, "kind: KIND_GPU", "kind: KIND_CPU")
    with pytest.raises(TritonError) as refused, Triton(repository.path, log=tmp_path / "triton.log"):
        pass
    assert "gpu_execution_accelerator tensorrt: this instance runs on a CPU; serve the model on" in str(refused.value)


def has_gpu() -> bool:
    return Path("/proc/driver/nvidia/gpus").is_dir()


def publish(folder: Path, accelerators: dict) -> Repository:
    repository = Repository(folder / "models")
    graph = write_grey_graph(folder / "graph.onnx", SPEC)
    repository.publish("pets", graph, SPEC, manifest={"accelerators": accelerators})
    return repository


def edit(repository: Repository, old: str, new: str, after: str = "") -> None:
    """Replace a text in config.pbtxt as an operator would: the first one after another text."""
    path = repository.path / "pets" / "config.pbtxt"
    text = path.read_text()
    start = text.index(after)
    assert old in text[start:]
    path.write_text(text[:start] + text[start:].replace(old, new, 1))
