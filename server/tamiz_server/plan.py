"""Plans of TensorRT: engines that are built before they are served, by models of their own.

Triton has one backend per model, so the versions of a model are either graphs or plans. The folder of such a version
has its graph too, from which the plan was built and from which it can be built again; Triton ignores it.
"""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2

from tamiz.errors import RepositoryError

PLAN_FILE = "model.plan"
"""The file of a version that has a plan; the name that Triton's backend expects."""

BACKEND = "tensorrt"
PLATFORM = "tensorrt_plan"


def serve_plans(config: model_config_pb2.ModelConfig) -> None:
    """Have a new model serve plans by Triton's own backend, on GPUs alone; the configuration is changed in place."""
    config.backend, config.platform = BACKEND, PLATFORM
    for group in config.instance_group:
        group.kind = model_config_pb2.ModelInstanceGroup.KIND_GPU


def require_same_kind(config: model_config_pb2.ModelConfig, *, is_plan: bool) -> None:
    """Check that a version is of the kind that its model serves.

    Args:
        config: the configuration of the model.
        is_plan: whether the version has a plan.

    Raises:
        RepositoryError: it is not.
    """
    serves_plans = config.platform == PLATFORM or config.backend == BACKEND
    if serves_plans != is_plan:
        kinds = ("plans of TensorRT", "ONNX graphs") if serves_plans else ("ONNX graphs", "plans of TensorRT")
        raise RepositoryError(f"model {config.name}: it serves {kinds[0]}; publish {kinds[1]} under another name")
