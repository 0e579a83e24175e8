"""Triton's model configuration, ``config.pbtxt``, read and written through Triton's protobuf.

A configuration is created when the first version of a model is published. Later changes touch only what depends on the
versions: the live version, the specs, the shapes and the warm-up. Everything that an operator tuned stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, TypeAlias

from google.protobuf import text_format
from pydantic import BaseModel, ConfigDict, Field
from tritonclient.grpc import model_config_pb2

from tamiz.errors import RepositoryError
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_PARAMETER, ModelSpec

LAST_VERSION = "tamiz.last_version"
"""Config parameter with the highest version number ever used, so that a deleted version's number is not used again."""

PROMOTIONS = "tamiz.promotions"
"""Config parameter with the versions in the order in which they went live, separated by spaces; for rollback."""

Count = Annotated[int, Field(ge=1)]
ModelConfig: TypeAlias = model_config_pb2.ModelConfig


class ServingSettings(BaseModel):
    """How Triton serves a model.

    They are written to ``config.pbtxt`` when the first version is published; from then on an operator edits that file.

    Attributes:
        max_batch_size: the largest number of images in one request, and in one execution of the model.
        max_queue_delay_us: how long a request waits for other requests to share its execution, in microseconds. With 0,
            only requests that wait for an instance anyway share one. With more, Triton 2.51 may stop using an instance
            until the model is loaded again, because each time it joins two batches it counts one free instance too
            few (triton-inference-server/server#8870, fixed in core#509).
        max_queue_size: the largest number of requests in the queue; further requests are rejected at once.
        queue_timeout_ms: a request that waits longer in the queue is rejected, in milliseconds.
        instances: number of copies of the model, each with its own threads. The best number is usually one more than
            the executions that keep all processors busy: when the queue has a size limit, Triton 2.51 sometimes misses
            that an instance became free, and leaves the instance idle until the next request or 500 ms.
        threads: number of threads of one execution (``intra_op_thread_count``); 0 lets ONNX Runtime choose.
        micro_batch_size: number of images that a CPU computes together; a larger batch is split into parts of this
            size. With one thread per execution and images of at least 160 x 160 pixels, 2 is 1.1 to 1.4 times as fast
            as the whole batch, because the activations of few images stay in the core's cache. 0 does not split
            batches; GPUs never split them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: Count = 16
    max_queue_delay_us: Annotated[int, Field(ge=0)] = 0
    max_queue_size: Count = 512
    queue_timeout_ms: Count = 5_000
    instances: Count = 2
    threads: Annotated[int, Field(ge=0)] = 0
    micro_batch_size: Annotated[int, Field(ge=0)] = 0


def new_config(model: str, settings: ServingSettings) -> ModelConfig:
    """Create the configuration of a model that has no versions yet; `add_version` and `set_live` complete it."""
    config = ModelConfig(name=model, backend="onnxruntime", max_batch_size=settings.max_batch_size)
    # Triton chooses the kind of device (KIND_AUTO): a GPU if the machine has one.
    config.instance_group.add(count=settings.instances)
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = settings.max_queue_delay_us
    queue = batching.default_queue_policy
    queue.max_queue_size = settings.max_queue_size
    queue.default_timeout_microseconds = settings.queue_timeout_ms * 1000
    queue.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
    if settings.threads:
        config.parameters["intra_op_thread_count"].string_value = str(settings.threads)
    if settings.micro_batch_size:
        config.parameters["micro_batch_size"].string_value = str(settings.micro_batch_size)
    return config


def add_version(config: ModelConfig, version: int, spec: ModelSpec) -> None:
    """Add a version's spec, which clients read from the configuration; the live version does not change.

    Args:
        config: the configuration, changed in place.
        version: number of the version.
        spec: spec of the version.
    """
    config.parameters[f"{SPEC_PARAMETER}{version}"].string_value = spec.to_json()
    config.parameters[LAST_VERSION].string_value = str(max(last_version(config), version))


def drop_versions(config: ModelConfig, *, keep: Collection[int]) -> None:
    """Remove the specs of all versions except those to keep; the configuration is changed in place."""
    specs = {f"{SPEC_PARAMETER}{version}" for version in keep}
    for key in [key for key in config.parameters if key.startswith(SPEC_PARAMETER) and key not in specs]:
        del config.parameters[key]


def set_live(config: ModelConfig, promotions: Sequence[int], spec: ModelSpec) -> None:
    """Make the last promoted version the live one, with its shapes and its warm-up.

    Args:
        config: the configuration, changed in place.
        promotions: the versions in the order in which they went live, at least one.
        spec: spec of the last of them.
    """
    config.version_policy.Clear()
    config.version_policy.specific.versions.append(promotions[-1])
    # Triton has one set of dimensions per model, not per version, so they are those of the live version.
    del config.input[:], config.output[:], config.model_warmup[:]
    config.input.add(name=INPUT_NAME, data_type=model_config_pb2.TYPE_UINT8, dims=spec.preprocessing.shape)
    config.output.add(name=OUTPUT_NAME, data_type=model_config_pb2.TYPE_FP32, dims=[len(spec.labels)])
    # The first execution of an ONNX Runtime session is slow, and so is the first one of the largest batch.
    for batch_size in sorted({1, config.max_batch_size}):
        warmup = config.model_warmup.add(name=f"batch of {batch_size}", batch_size=batch_size)
        warmup.inputs[INPUT_NAME].data_type = model_config_pb2.TYPE_UINT8
        warmup.inputs[INPUT_NAME].dims.extend(spec.preprocessing.shape)
        warmup.inputs[INPUT_NAME].zero_data = True
    config.parameters[PROMOTIONS].string_value = " ".join(map(str, promotions))


def last_version(config: ModelConfig) -> int:
    """The highest version number that the model ever had; 0 before the first version."""
    text = config.parameters[LAST_VERSION].string_value if LAST_VERSION in config.parameters else ""
    return int(text) if text.isdecimal() else 0


def read_promotions(config: ModelConfig) -> list[int]:
    """Read the versions in the order in which they went live; the last one is live.

    Raises:
        RepositoryError: the configuration does not have them, so the model was not published by Tamiz.
    """
    text = config.parameters[PROMOTIONS].string_value if PROMOTIONS in config.parameters else ""
    try:
        promotions = [int(version) for version in text.split()]
    except ValueError:
        promotions = []
    if not promotions:
        raise RepositoryError(
            f"model {config.name}: config.pbtxt has no {PROMOTIONS}; the model was not published by Tamiz"
        )
    return promotions


def format_config(config: ModelConfig) -> str:
    """Write a configuration as the text of ``config.pbtxt``; `parse_config` reads it back to an equal message."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def parse_config(text: str, source: str) -> ModelConfig:
    """Read the text of ``config.pbtxt``.

    Args:
        text: content of the file.
        source: name of the file, for the error message.

    Raises:
        RepositoryError: the text is not a model configuration.
    """
    config = ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as exc:
        raise RepositoryError(f"{source}: not a model configuration: {exc}") from exc
    return config
