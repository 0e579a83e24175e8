"""Plans of TensorRT: an engine that is built here, for the GPU of this machine, and served without being built again.

A plan runs on the GPU model and with the TensorRT for which it was built, so its version records both. It needs the
Python package of TensorRT, whose licence allows no dependency of Tamiz on it, and a GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamiz.errors import ExportError, MissingExtraError, TamizError, UsageError, one_line
from tamiz.files import write_whole
from tamiz.spec import INPUT_NAME
from tamiz_server.config import ServingSettings
from tamiz_server.gpu import Gpu, find_gpu
from tamiz_server.plan import PLAN_FILE
from tamiz_server.promotion import promote
from tamiz_server.repository import Repository
from tamiz_train.run import Run

from ..candidate import Candidate
from .defaults import BUDGET_S, MAX_LOSS_POINTS
from .export import WantedPrecision, export_precision
from .tensorrt import PRECISIONS, WORKSPACE_BYTES, profile_shapes

INSTALL = 'pip install "tensorrt>=10" (from NVIDIA, under its own licence)'
"""How the package of TensorRT is installed."""

TIMING_CACHE = "tensorrt.timing"
"""File in the folder of a run with the times of kernels, with which the next plan is built sooner."""

_OLDEST = 10


@dataclass(frozen=True)
class ExportedPlan:
    """A version that has a plan.

    Attributes:
        repository: the model repository in the folder of the run.
        model: name of the model.
        version: number of the version, which is live.
        precision: precision of the graph from which the plan was built.
        record: for what and by what it was built; see `plan_record`.
    """

    repository: Path
    model: str
    version: int
    precision: str
    record: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Path of the plan."""
        return self.repository / self.model / str(self.version) / PLAN_FILE


def export_plan(
    run: Run,
    precision: WantedPrecision,
    *,
    budget_s: float = BUDGET_S,
    max_loss_points: float = MAX_LOSS_POINTS,
    on_progress: Callable[[str], None] = lambda line: None,
) -> ExportedPlan:
    """Export a run as a plan of TensorRT for the GPU of this machine, as a model of its own.

    The model is in a model repository in the folder of the run, ``tensorrt/``, and is there completely or not at all.
    Its name is that of the recipe with ``_tensorrt``. The accuracy of the graph is measured, as for
    `tamiz_release.export_precision`; that of the plan is not.

    Args:
        run: a finished run.
        precision: ``fp16`` or ``int8``.
        budget_s: time budget of the search for the graph in seconds.
        max_loss_points: the largest accuracy (mAP, if multilabel) that an INT8 graph may lose, in points.
        on_progress: called with a line of text after each step.

    Raises:
        UsageError: an argument is unknown or out of its range.
        MissingExtraError: TensorRT is not installed.
        ExportError: this machine has no GPU, or a TensorRT that is too old; the network cannot be exported; no graph
            was found that keeps the accuracy; or TensorRT cannot build the plan.
        RunError: see `tamiz_release.export_precision`.
        OutputError: the folder of the run cannot be written.
        RepositoryError: the model repository in it cannot be changed.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"format tensorrt: the precision is {precision}; give fp16 or int8")
    trt = _import_tensorrt()
    gpu = require_gpu(trt.__version__, find_gpu())
    candidate = export_precision(
        run,
        precision,
        target="tensorrt",
        budget_s=budget_s,
        max_loss_points=max_loss_points,
        on_progress=on_progress,
    )
    shapes = profile_shapes(run.spec, run.recipe.serving.max_batch_size)
    on_progress(f"building the plan for {gpu.name} with TensorRT {trt.__version__}; this takes minutes")
    plan = _build_plan(trt, candidate.graph, shapes, run.path / TIMING_CACHE)
    exported = publish_plan(run, candidate, plan, plan_record(gpu, trt.__version__, shapes))
    on_progress(f"{exported.path}: {len(plan) / 1e6:.1f} MB, for {gpu.name}, not measured")
    return exported


def require_gpu(tensorrt: str, gpu: Gpu | None) -> Gpu:
    """Check that a plan can be built here.

    Args:
        tensorrt: version of TensorRT.
        gpu: the GPU of this machine; None if it has none.

    Returns:
        the GPU.

    Raises:
        ExportError: it cannot.
    """
    major = tensorrt.partition(".")[0]
    if not major.isdecimal() or int(major) < _OLDEST:
        raise ExportError(f"TensorRT {tensorrt} is too old to build a plan of a typed graph; type: {INSTALL}")
    if gpu is None:
        raise ExportError(
            "a plan of TensorRT is built for the GPU of the machine, and this one has no NVIDIA GPU; export it on the "
            "machine that serves it, or publish with --target tensorrt, so that the server builds it"
        )
    return gpu


def plan_record(gpu: Gpu, tensorrt: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """For what and by what a plan was built, for the manifest of its version.

    Args:
        gpu: the GPU.
        tensorrt: version of TensorRT.
        shapes: the shapes of images for which it was built; see `tamiz_release.precision.tensorrt.profile_shapes`.
    """
    return {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver,
        "tensorrt": tensorrt,
        "profile": {name: list(shape) for name, shape in shapes.items()},
        # The precision report is of the graph.
        "measured": False,
    }


def publish_plan(run: Run, candidate: Candidate, plan: bytes, record: Mapping[str, Any]) -> ExportedPlan:
    """Add a plan to the model repository in the folder of a run, and make it live there.

    Args:
        run: the run.
        candidate: the graph from which the plan was built.
        plan: the plan.
        record: for what and by what it was built.

    Raises:
        RepositoryError: the repository cannot be changed.
    """
    model, repository = f"{run.recipe.name}_tensorrt", Repository(run.path / "tensorrt")
    # Settings of a CPU.
    settings = run.recipe.serving.model_copy(update={"threads": 0, "micro_batch_size": 0})
    version = repository.publish(
        model,
        candidate.graph,
        run.spec,
        manifest={
            **candidate.manifest,
            "precision": candidate.precision,
            "serving": settings.model_dump(),
            "plan": dict(record),
        },
        settings=ServingSettings(**settings.model_dump()),
        files={PLAN_FILE: plan},
    )
    promote(repository, model, version)
    return ExportedPlan(repository.path, model, version, candidate.precision, record)


def _import_tensorrt() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ModuleNotFoundError as exc:
        raise MissingExtraError("", "tensorrt", command=INSTALL) from exc
    except (ImportError, OSError, RuntimeError) as exc:
        # Its libraries are packages of their own, and need those of CUDA.
        raise ExportError(f"TensorRT cannot be loaded: {one_line(exc)[:300]}; type: {INSTALL}") from exc


def _build_plan(trt: Any, graph: Path, shapes: Mapping[str, tuple[int, ...]], timing_cache: Path) -> bytes:
    try:
        return _build(trt, graph, shapes, timing_cache)
    except TamizError:
        raise
    except Exception as exc:
        # Its bindings raise errors of many kinds, such as TypeError where the driver is too old.
        raise ExportError(f"{graph}: TensorRT cannot build a plan of the graph: {one_line(exc)[:300]}") from exc


def _build(trt: Any, graph: Path, shapes: Mapping[str, tuple[int, ...]], timing_cache: Path) -> bytes:
    """Build the plan of a typed graph: each node in the type that the graph says."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # From TensorRT 11 on, all networks are typed.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        reason = parser.get_error(0).desc() if parser.num_errors else "no reason was given"
        raise ExportError(f"{graph}: TensorRT cannot read the graph: {' '.join(str(reason).split())[:300]}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, shapes["min"], shapes["opt"], shapes["max"])
    config.add_optimization_profile(profile)
    stored = timing_cache.read_bytes() if timing_cache.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(stored), ignore_mismatch=False):
        # It is of another GPU or TensorRT.
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"{graph}: TensorRT cannot build a plan of the graph; its messages above say why")
    write_whole(timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)
