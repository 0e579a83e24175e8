"""A Triton Python-based backend named ``onnxruntime``: serves ``model.onnx`` as Triton's native backend does.

The Triton of the nvidia-pytriton wheel has no ONNX Runtime backend. This file replaces it, so that one model repository
runs on the embedded Triton and on the official image. It runs in Triton's own Python process and imports nothing of
Tamiz.

`onnxruntime_session` says which settings of the native backend are honoured.

One parameter is its own, and the native backend ignores it: ``micro_batch_size``, the number of rows that a CPU
computes together. A large batch is faster in parts, because their activations stay in the core's cache. 0 computes the
batch in one part, as a GPU always does.

A request may carry the parameter ``tamiz_deadline_us``: the time, in microseconds since 1970, at which its caller stops
waiting. When it has passed, the request is answered with an error instead of being computed. (Triton's own timeout of
requests belongs to a queue policy, and with any of these Triton 2.51 leaves instances idle.)
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

# Triton's Python process for Python 3.11 ignores PYTHONPATH (a bug of its pybind11, fixed in pybind/pybind11#4119).
sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))

import numpy as np
import triton_python_backend_utils as pb_utils
from onnxruntime_session import GPU_PROVIDERS, SettingError, open_session, read_parameter

# Tensor types: ONNX Runtime's name, then Triton's name and the numpy type.
_TYPES = {
    "tensor(bool)": ("TYPE_BOOL", np.bool_),
    "tensor(uint8)": ("TYPE_UINT8", np.uint8),
    "tensor(uint16)": ("TYPE_UINT16", np.uint16),
    "tensor(uint32)": ("TYPE_UINT32", np.uint32),
    "tensor(uint64)": ("TYPE_UINT64", np.uint64),
    "tensor(int8)": ("TYPE_INT8", np.int8),
    "tensor(int16)": ("TYPE_INT16", np.int16),
    "tensor(int32)": ("TYPE_INT32", np.int32),
    "tensor(int64)": ("TYPE_INT64", np.int64),
    "tensor(float16)": ("TYPE_FP16", np.float16),
    "tensor(float)": ("TYPE_FP32", np.float32),
    "tensor(double)": ("TYPE_FP64", np.float64),
}
_DEADLINE = "tamiz_deadline_us"


class TritonPythonModel:
    """One instance of a model, with its own ONNX Runtime session."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model and reject a configuration that does not fit it, as the native backend does.

        Args:
            args: given by Triton: ``model_config`` as JSON, ``model_repository`` (the model's folder),
                ``model_version``, ``model_name``, ``model_instance_kind`` and ``model_instance_device_id``.

        Raises:
            TritonModelException: the model is missing, or the configuration does not fit it.
        """
        self.config = json.loads(args["model_config"])
        path = _model_path(args, self.config)
        if not path.is_file():
            raise pb_utils.TritonModelException(f"unable to find '{path}' for model '{args['model_name']}'")
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        self.batched = self.config["max_batch_size"] > 0
        try:
            self.session = open_session(path, self.config, gpu=gpu)
            on_gpu = not GPU_PROVIDERS.isdisjoint(self.session.get_providers())
            self.micro_batch_size = 0 if on_gpu or not self.batched else _micro_batch_size(self.config)
        except SettingError as exc:
            raise pb_utils.TritonModelException(str(exc)) from None
        self.outputs = [tensor["name"] for tensor in self.config["output"]]
        _check("input", self.config["input"], self.session.get_inputs(), self.batched, every=True)
        _check("output", self.config["output"], self.session.get_outputs(), self.batched, every=False)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Compute the requests as one batch, or one by one if that fails; return one response per request.

        Requests whose deadline has passed are answered with an error.
        """
        now, deadlines = time.time(), [_deadline(request) for request in requests]
        waited_for = [request for request, deadline in zip(requests, deadlines, strict=True) if deadline > now]
        responses = iter(self._respond(waited_for, [deadline for deadline in deadlines if deadline > now]))
        return [next(responses) if deadline > now else _expired() for deadline in deadlines]

    def _respond(self, requests: list[Any], deadlines: list[float]) -> list[Any]:
        feeds = [self._feed(request) for request in requests]
        if len(feeds) < 2 or not self.batched:
            return list(map(self._respond_alone, requests, feeds, deadlines))
        ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])
        try:
            joint = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
            results = self._run(joint, list(zip(ends, deadlines, strict=True)))
        except Exception:
            # One invalid request must not fail the other requests of its batch.
            return list(map(self._respond_alone, requests, feeds, deadlines))
        return [
            self._response(request, [result[start:end] for result in results]) if end <= len(results[0]) else _expired()
            for request, start, end in zip(requests, [0, *ends], ends, strict=False)
        ]

    def _run(self, feed: dict[str, Any], deadlines: list[tuple[int, float]]) -> list[Any]:
        """Compute a batch, but no further micro-batch when all deadlines of the rest have passed.

        Args:
            feed: the input tensors.
            deadlines: of each request in the batch, the number of the row after its last one, and its deadline.

        Returns:
            the outputs, of the rows that were computed.
        """
        rows, step = len(next(iter(feed.values()))), self.micro_batch_size
        if not 0 < step < rows:
            return self.session.run(self.outputs, feed)  # type: ignore[no-any-return]
        parts = []
        for start in range(0, rows, step):
            if start and max(deadline for end, deadline in deadlines if end > start) < time.time():
                break
            part = {name: tensor[start : start + step] for name, tensor in feed.items()}
            parts.append(self.session.run(self.outputs, part))
        return [np.concatenate(results) for results in zip(*parts, strict=True)]

    def _feed(self, request: Any) -> dict[str, Any]:
        return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}

    def _respond_alone(self, request: Any, feed: dict[str, Any], deadline: float) -> Any:
        try:
            rows = len(next(iter(feed.values())))
            results = self._run(feed, [(rows, deadline)])
            return self._response(request, results) if deadline > time.time() else _expired()
        except Exception as exc:
            error = pb_utils.TritonError(f"onnx runtime error: {exc}", pb_utils.TritonError.INTERNAL)
            return pb_utils.InferenceResponse([], error)

    def _response(self, request: Any, results: list[Any]) -> Any:
        requested = set(request.requested_output_names())
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(result))
            for name, result in zip(self.outputs, results, strict=True)
            if name in requested
        ]
        return pb_utils.InferenceResponse(tensors)

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Return the configuration unchanged: Tamiz writes all of it, and `initialize` checks it."""
        return auto_complete_model_config


def _deadline(request: Any) -> float:
    """The time at which the caller of a request stops waiting, in seconds since 1970."""
    parameters = request.parameters()
    # Parsed only where it matters: most requests of other clients have no such parameter.
    if _DEADLINE not in parameters:
        return math.inf
    deadline_us = json.loads(parameters).get(_DEADLINE)
    return deadline_us / 1e6 if isinstance(deadline_us, int) else math.inf


def _expired() -> Any:
    # The client recognises the text.
    error = pb_utils.TritonError("the deadline of the request has passed", pb_utils.TritonError.UNAVAILABLE)
    return pb_utils.InferenceResponse([], error)


def _model_path(args: dict[str, str], config: dict[str, Any]) -> Path:
    name = config.get("default_model_filename") or "model.onnx"
    return Path(args["model_repository"]) / args["model_version"] / name


def _micro_batch_size(config: dict[str, Any]) -> int:
    size = read_parameter(config, "micro_batch_size", 0)
    if size < 0:
        raise SettingError(f"parameter micro_batch_size: expected 0 or more, got {size}")
    return size


def _check(kind: str, configured: list[Any], actual: list[Any], batched: bool, every: bool) -> None:
    """Compare the tensors of the configuration with those of the model.

    Args:
        kind: ``input`` or ``output``, for the message.
        configured: the tensors in ``config.pbtxt``, as JSON.
        actual: the tensors of the ONNX Runtime session.
        batched: whether the model's first dimension is the batch, which the configuration leaves out.
        every: whether the configuration must list all tensors of the model.
    """
    tensors = {tensor.name: tensor for tensor in actual}
    if every and len(configured) != len(actual):
        raise pb_utils.TritonModelException(
            f"the configuration has {len(configured)} {kind}s, the model has {len(actual)}"
        )
    for entry in configured:
        name = entry["name"]
        if name not in tensors:
            raise pb_utils.TritonModelException(
                f"the model has no {kind} '{name}'; its {kind}s are {', '.join(tensors)}"
            )
        tensor = tensors[name]
        if tensor.type not in _TYPES:
            raise pb_utils.TritonModelException(f"{kind} '{name}': type {tensor.type} is not supported")
        if _TYPES[tensor.type][0] != entry["data_type"]:
            raise pb_utils.TritonModelException(
                f"{kind} '{name}': the configuration has {entry['data_type']}, the model has {_TYPES[tensor.type][0]}"
            )
        # A fixed dimension is a number; a symbolic one is a name or None.
        shape = [dim if isinstance(dim, int) and dim > 0 else -1 for dim in tensor.shape]
        if batched and shape[:1] != [-1]:
            raise pb_utils.TritonModelException(
                f"{kind} '{name}': the model does not support batching, but max_batch_size is not 0"
            )
        dims = [int(dim) for dim in entry.get("reshape", {}).get("shape", entry["dims"])]
        expected = shape[1:] if batched else shape
        # The configuration may fix a dimension that is symbolic in the model, but not the other way round.
        fits = len(dims) == len(expected) and all(size in (-1, dim) for dim, size in zip(dims, expected, strict=True))
        if not fits:
            raise pb_utils.TritonModelException(
                f"{kind} '{name}': the configuration has shape {dims}, the model has {expected}"
            )
