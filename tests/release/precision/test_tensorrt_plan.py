"""Plans of TensorRT: all that is decided and written around the build, which needs a GPU and is not tested here."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tamiz import ExportError, MissingExtraError, RepositoryError, TritonError, UsageError
from tamiz.files import sha256
from tamiz_release.candidate import Candidate
from tamiz_release.precision.tensorrt_plan import ExportedPlan, export_plan, plan_record, publish_plan, require_gpu
from tamiz_server import verify
from tamiz_server.gpu import Gpu
from tamiz_server.plan import PLAN_FILE
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton
from tamiz_train.onnx_export import export
from tamiz_train.run import Run

L4 = Gpu("NVIDIA L4", "8.9", "570.86.15")
SHAPES = {"min": (1, 28, 28, 1), "opt": (64, 28, 28, 1), "max": (64, 28, 28, 1)}
RECORD = plan_record(L4, "10.13.0", SHAPES)

needs_no_tensorrt = pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed")


@needs_no_tensorrt
def test_without_tensorrt_nothing_is_exported_and_the_error_says_what_to_install(run: Run) -> None:
    before = sorted(run.path.iterdir())
    with pytest.raises(
        MissingExtraError, match=r'^tensorrt is not installed; type: pip install "tensorrt>=10"'
    ) as missing:
        export_plan(run, "fp16")
    assert (missing.value.extra, missing.value.missing) == ("", "tensorrt")
    assert str(pickle.loads(pickle.dumps(missing.value))) == str(missing.value)
    assert sorted(run.path.iterdir()) == before


@needs_no_tensorrt
def test_the_command_ends_with_that_line(run: Run, tamiz: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = tamiz("export", run.path, "--format", "tensorrt", "--precision", "int8")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "tensorrt is not installed" in done.stderr
    wrong = tamiz("export", run.path, "--format", "tensorrt")
    assert wrong.returncode == 2
    assert "format tensorrt: the precision is fp32; give fp16 or int8" in wrong.stderr


@pytest.mark.parametrize("precision", ["fp32", "auto", "int4"])
def test_a_plan_is_in_fp16_or_int8(run: Run, precision: str) -> None:
    with pytest.raises(UsageError, match=f"format tensorrt: the precision is {precision}; give fp16 or int8"):
        export_plan(run, precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["10.0.1", "10.13.0.35", "11.4.0.106"])
def test_a_plan_is_built_where_there_are_a_gpu_and_a_tensorrt_of_typed_graphs(version: str) -> None:
    assert require_gpu(version, L4) is L4


@pytest.mark.parametrize(
    ("version", "gpu", "message"),
    [
        (
            "10.13.0",
            None,
            "this one has no NVIDIA GPU; export it on the machine that serves it, or publish with --target",
        ),
        ("8.6.1", L4, 'TensorRT 8.6.1 is too old to build a plan of a typed graph; type: pip install "tensorrt>=10"'),
        ("unknown", L4, "TensorRT unknown is too old"),
    ],
)
def test_elsewhere_the_error_says_why_and_what_to_do(version: str, gpu: Gpu | None, message: str) -> None:
    with pytest.raises(ExportError, match=re.escape(message)):
        require_gpu(version, gpu)


def test_the_record_says_for_which_gpu_and_by_what_a_plan_was_built() -> None:
    assert RECORD == {
        "gpu": "NVIDIA L4",
        "compute_capability": "8.9",
        "driver": "570.86.15",
        "tensorrt": "10.13.0",
        "profile": {"min": [1, 28, 28, 1], "opt": [64, 28, 28, 1], "max": [64, 28, 28, 1]},
        "measured": False,
    }
    json.dumps(RECORD)


@pytest.fixture
def published(run: Run) -> ExportedPlan:
    """A version whose plan is a text that no TensorRT can read: what is tested is what lies around it."""
    return publish_plan(run, candidate(run), b"a plan", RECORD)


def candidate(run: Run) -> Candidate:
    export(run)
    return Candidate(run.path / "model.onnx", run.spec, "fp16", manifest={"recipe": run.recipe.name})


def test_a_plan_is_a_model_of_its_own_in_a_repository_in_the_folder_of_the_run(
    run: Run, published: ExportedPlan
) -> None:
    assert (published.model, published.version, published.precision) == ("digits_tensorrt", 1, "fp16")
    assert published.path == run.path / "tensorrt" / "digits_tensorrt" / "1" / "model.plan"
    assert published.path.read_bytes() == b"a plan"
    repository = Repository(published.repository)
    config = repository.config("digits_tensorrt")
    assert (config.platform, config.backend) == ("tensorrt_plan", "tensorrt")
    assert [group.kind for group in config.instance_group] == [config.instance_group[0].KIND_GPU]
    assert config.max_batch_size == run.recipe.serving.max_batch_size
    assert not {"micro_batch_size", "intra_op_thread_count"} & set(config.parameters)
    manifest = repository.live_version("digits_tensorrt").manifest
    assert manifest["plan"] == RECORD
    assert manifest["files"][PLAN_FILE] == sha256(published.path)
    assert manifest["onnx_sha256"] == sha256(run.path / "model.onnx"), "the graph from which it was built"
    assert "gate" not in manifest, "nothing measured the plan"
    assert verify(repository).findings == ()


def test_the_newest_plan_is_live_and_the_one_before_can_be_taken_back(run: Run, published: ExportedPlan) -> None:
    again = publish_plan(run, candidate(run), b"another plan", RECORD)
    repository = Repository(again.repository)
    assert (again.version, repository.live_numbers("digits_tensorrt")) == (2, [2])
    assert published.path.read_bytes() == b"a plan"


def test_plans_and_graphs_are_not_versions_of_one_model(run: Run, published: ExportedPlan) -> None:
    repository = Repository(published.repository)
    with pytest.raises(
        RepositoryError, match="model digits_tensorrt: it serves plans of TensorRT; publish ONNX graphs"
    ):
        repository.publish("digits_tensorrt", run.path / "model.onnx", run.spec)
    repository.publish("digits", run.path / "model.onnx", run.spec)
    with pytest.raises(RepositoryError, match="model digits: it serves ONNX graphs; publish plans of TensorRT under"):
        repository.publish("digits", run.path / "model.onnx", run.spec, files={PLAN_FILE: b"a plan"})
    assert repository.version_numbers("digits") == [1]
    assert verify(repository).findings == ()


def test_the_embedded_server_refuses_a_plan_in_one_line(published: ExportedPlan, tmp_path: Path) -> None:
    with pytest.raises(TritonError) as refused, Triton(published.repository, log=tmp_path / "triton.log"):
        pass
    message = str(refused.value)
    assert message.startswith("Triton did not load model digits_tensorrt version 1: ")
    assert message.endswith("serve it by a Triton that has this backend, such as its official image")
    assert "\n" not in message
