"""Triton's model configuration, ``config.pbtxt``, read and written through Triton's protobuf.

A configuration is created when the first version of a model is published. Later changes touch only what depends on the
versions: the live version, the specs, the shapes and the warm-up. Everything that an operator tuned stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from google.protobuf import text_format
from pydantic import Field
from tritonclient.grpc import model_config_pb2

from tamiz.document import Document
from tamiz.errors import RepositoryError
from tamiz.json_text import to_json
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_PARAMETER, SUMMARY_PARAMETER, ModelSpec

from .accelerators import fit_profiles

BACKEND = "onnxruntime"
"""Backend of the models that Tamiz publishes: that of the embedded Triton, or the one that Triton's images contain."""

LAST_VERSION = "tamiz.last_version"
"""Config parameter with the highest version number ever used, so that a deleted version's number is not used again."""

PROMOTIONS = "tamiz.promotions"
"""Config parameter with the versions in the order in which they went live, separated by spaces; for rollback."""

_THREADS = "intra_op_thread_count"
_MICRO_BATCH_SIZE = "micro_batch_size"
_WARMUP_NAME = "batch of {}"

Count = Annotated[int, Field(ge=1)]
ModelConfig: TypeAlias = model_config_pb2.ModelConfig


class ServingSettings(Document):
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

    max_batch_size: Count = 16
    max_queue_delay_us: Annotated[int, Field(ge=0)] = 0
    max_queue_size: Count = 512
    queue_timeout_ms: Count = 5_000
    instances: Count = 2
    threads: Annotated[int, Field(ge=0)] = 0
    micro_batch_size: Annotated[int, Field(ge=0)] = 0


def new_config(model: str, settings: ServingSettings) -> ModelConfig:
    """Create the configuration of a model that has no versions yet; `add_version` and `set_live` complete it."""
    config = ModelConfig(name=model, backend=BACKEND)
    write_settings(config, settings)
    return config


def write_settings(config: ModelConfig, settings: ServingSettings) -> None:
    """Write serving settings into a configuration, which is changed in place; all other fields stay.

    The warm-up and the engines of TensorRT follow the largest batch size. Of several instance groups, one remains if
    their sum differs from ``settings.instances``.
    """
    config.max_batch_size = settings.max_batch_size
    if read_settings(config)["instances"] != settings.instances or not config.instance_group:
        del config.instance_group[1:]
        # Triton chooses the kind of device (KIND_AUTO): a GPU if the machine has one.
        group = config.instance_group[0] if config.instance_group else config.instance_group.add()
        group.count = settings.instances
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = settings.max_queue_delay_us
    queue = batching.default_queue_policy
    queue.max_queue_size = settings.max_queue_size
    queue.default_timeout_microseconds = settings.queue_timeout_ms * 1000
    queue.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
    for name, value in ((_THREADS, settings.threads), (_MICRO_BATCH_SIZE, settings.micro_batch_size)):
        if value:
            config.parameters[name].string_value = str(value)
        elif name in config.parameters:
            del config.parameters[name]
    fit_profiles(config)
    _set_warmup(config)


def read_settings(config: ModelConfig) -> dict[str, float]:
    """Read what a configuration says about each of the `ServingSettings`; 0 where it says nothing."""
    batching = config.dynamic_batching
    return {
        "max_batch_size": config.max_batch_size,
        "max_queue_delay_us": batching.max_queue_delay_microseconds,
        "max_queue_size": batching.default_queue_policy.max_queue_size,
        "queue_timeout_ms": batching.default_queue_policy.default_timeout_microseconds / 1000,
        # A group without a count, and a configuration without a group, have one instance.
        "instances": sum(max(1, group.count) for group in config.instance_group) or 1,
        "threads": _read_number(config, _THREADS),
        "micro_batch_size": _read_number(config, _MICRO_BATCH_SIZE),
    }


def _read_number(config: ModelConfig, name: str) -> int:
    text = config.parameters[name].string_value if name in config.parameters else ""
    return int(text) if text.isdecimal() else 0


def add_version(config: ModelConfig, version: int, spec: ModelSpec, summary: Mapping[str, object]) -> None:
    """Add what clients and operators read of a version from the configuration; the live version does not change.

    Args:
        config: the configuration, changed in place.
        version: number of the version.
        spec: spec of the version.
        summary: summary of the version's manifest, which JSON can hold.
    """
    config.parameters[f"{SUMMARY_PARAMETER}{version}"].string_value = to_json(summary)
    config.parameters[f"{SPEC_PARAMETER}{version}"].string_value = spec.to_json()
    config.parameters[LAST_VERSION].string_value = str(max(last_version(config), version))


def drop_versions(config: ModelConfig, *, keep: Collection[int]) -> None:
    """Remove specs and summaries of all versions except those to keep; the configuration is changed in place."""
    for prefix in (SPEC_PARAMETER, SUMMARY_PARAMETER):
        kept = {f"{prefix}{version}" for version in keep}
        for key in [key for key in config.parameters if key.startswith(prefix) and key not in kept]:
            del config.parameters[key]


def read_labels(config: ModelConfig, version: int) -> int | None:
    """Number of labels of a version; None if the configuration has no readable spec of it."""
    labels = _read_object(config, f"{SPEC_PARAMETER}{version}").get("labels")
    return len(labels) if isinstance(labels, list) else None


def read_published_versions(config: ModelConfig) -> set[int]:
    """The versions whose specs the configuration has: those that were published and not removed since."""
    numbers = (key.removeprefix(SPEC_PARAMETER) for key in config.parameters if key.startswith(SPEC_PARAMETER))
    return {int(number) for number in numbers if number.isdecimal()}


def read_spec_text(config: ModelConfig, version: int) -> str | None:
    """The text of a version's spec; None if the configuration has none."""
    name = f"{SPEC_PARAMETER}{version}"
    return config.parameters[name].string_value if name in config.parameters else None


def read_summary(config: ModelConfig, version: int) -> dict[str, object]:
    """Read the summary of a version; empty if the configuration has none."""
    return _read_object(config, f"{SUMMARY_PARAMETER}{version}")


def _read_object(config: ModelConfig, name: str) -> dict[str, object]:
    try:
        document = json.loads(config.parameters[name].string_value) if name in config.parameters else {}
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


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
    _set_dims(config.input, INPUT_NAME, model_config_pb2.TYPE_UINT8, spec.preprocessing.shape)
    _set_dims(config.output, OUTPUT_NAME, model_config_pb2.TYPE_FP32, [len(spec.labels)])
    _set_warmup(config)
    config.parameters[PROMOTIONS].string_value = " ".join(map(str, promotions))


def _set_dims(tensors: Any, name: str, data_type: int, dims: Sequence[int]) -> None:
    tensor = next((tensor for tensor in tensors if tensor.name == name), None)
    if tensor is None:
        tensor = tensors.add(name=name, data_type=data_type)
    tensor.dims[:] = dims


def _set_warmup(config: ModelConfig) -> None:
    """Warm up the batch sizes 1 and the largest; keep the warm-ups of an operator, with the input's dimensions."""
    image = next((tensor for tensor in config.input if tensor.name == INPUT_NAME), None)
    if image is None:
        # No version is live yet.
        return
    # The first execution of an ONNX Runtime session is slow, and so is the first one of the largest batch.
    own = {_WARMUP_NAME.format(size): size for size in sorted({1, max(1, config.max_batch_size)})}
    stale = [warmup for warmup in config.model_warmup if warmup.name not in own and _is_own_warmup(warmup.name)]
    for warmup in stale:
        config.model_warmup.remove(warmup)
    present = {warmup.name for warmup in config.model_warmup}
    for name, batch_size in own.items():
        if name not in present:
            warmup = config.model_warmup.add(name=name, batch_size=batch_size)
            warmup.inputs[INPUT_NAME].data_type = model_config_pb2.TYPE_UINT8
            warmup.inputs[INPUT_NAME].zero_data = True
    for warmup in config.model_warmup:
        if INPUT_NAME in warmup.inputs:
            warmup.inputs[INPUT_NAME].dims[:] = image.dims


def _is_own_warmup(name: str) -> bool:
    return name.startswith(_WARMUP_NAME.format(""))


def live_on_disk(config: ModelConfig, numbers: Collection[int]) -> list[int]:
    """The versions that Triton loads by the version policy of a configuration, lowest first.

    Args:
        config: the configuration.
        numbers: the versions that are on disk.

    Source of the rules: ``ModelVersionPolicy`` in Triton's model_config.proto. Without a policy, it is the latest one.
    """
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return sorted(numbers)
        case "specific":
            return sorted(set(policy.specific.versions) & set(numbers))
        case _:
            return sorted(numbers)[-max(1, policy.latest.num_versions) :]


def describe_version_policy(config: ModelConfig) -> str:
    """The version policy as one line of text, as an operator writes it in config.pbtxt."""
    policy = text_format.MessageToString(config.version_policy, as_one_line=True)
    return f"version_policy {{ {policy} }}" if policy else "no version_policy"


def was_published(config: ModelConfig) -> bool:
    """Whether Tamiz published the model: only `publish` records promotions."""
    return PROMOTIONS in config.parameters


def last_version(config: ModelConfig) -> int:
    """The highest version number that the model ever had; 0 before the first version."""
    return _read_number(config, LAST_VERSION)


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
