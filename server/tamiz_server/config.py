"""config.pbtxt: Triton's model configuration, always through its own protobuf.

A configuration is made when a model is first published. After that Tamiz changes only what follows from the
versions (which are live, their specs, the shapes and the warm-up), so what an operator tuned stays.
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
"""Key of the highest number that was ever given, so that none is given twice, also after a version was deleted."""

PROMOTIONS = "tamiz.promotions"
"""Key of the versions in the order in which they went live, for rollback."""

Count = Annotated[int, Field(ge=1)]
ModelConfig: TypeAlias = model_config_pb2.ModelConfig


class ServingSettings(BaseModel):
    """How Triton serves a model; written when the model is first published, the operator's to edit after that.

    Attributes:
        max_batch_size: most images in one request, and in one run of the model.
        max_queue_delay_us: how long a request waits for others to share its run, in microseconds. With 0 those share
            one that wait for an instance anyway. With more, Triton 2.51 may stop using an instance until the model is
            loaded again: each time that it joins two batches it counts a free instance too few
            (triton-inference-server/server#8870, mended in core#509).
        max_queue_size: requests that wait; further ones are refused at once.
        queue_timeout_ms: a request that waits longer is refused.
        instances: copies of the model, each with its own threads; best one more than runs that keep the processors
            busy. Triton 2.51, where its queue is bounded, now and then misses that an instance became free, and lets
            it idle until another one does, a request comes, or 500 ms are over.
        threads: for one run of the model (``intra_op_thread_count``); 0 lets ONNX Runtime choose.
        micro_batch_size: images that a CPU computes together; a larger batch is computed in parts of so many. With one
            thread a run and images of 160 pixels and more, 2 is 1.1 to 1.4 times as fast as the whole batch, for the
            activations of few images stay in the core's cache. 0 does not divide batches, and neither do GPUs.
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
    """The configuration of a model without versions yet; `add_version` and `set_live` complete it."""
    config = ModelConfig(name=model, backend="onnxruntime", max_batch_size=settings.max_batch_size)
    # The kind of device is left to Triton: a GPU where there is one.
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
    """Have the configuration carry a version's spec to clients; which version is live stays as it is.

    Args:
        config: changed in place.
        version: its number.
        spec: its contract.
    """
    config.parameters[f"{SPEC_PARAMETER}{version}"].string_value = spec.to_json()
    config.parameters[LAST_VERSION].string_value = str(max(last_version(config), version))


def drop_versions(config: ModelConfig, *, keep: Collection[int]) -> None:
    """Take out the specs of all versions but some; changed in place."""
    specs = {f"{SPEC_PARAMETER}{version}" for version in keep}
    for key in [key for key in config.parameters if key.startswith(SPEC_PARAMETER) and key not in specs]:
        del config.parameters[key]


def set_live(config: ModelConfig, promotions: Sequence[int], spec: ModelSpec) -> None:
    """Make the last promoted version the live one, and write what follows from it.

    Args:
        config: changed in place.
        promotions: versions in the order in which they went live, at least one.
        spec: of the last of them.
    """
    config.version_policy.Clear()
    config.version_policy.specific.versions.append(promotions[-1])
    # Dimensions belong to the model, not to the version, so they are those of the live version.
    del config.input[:], config.output[:], config.model_warmup[:]
    config.input.add(name=INPUT_NAME, data_type=model_config_pb2.TYPE_UINT8, dims=spec.preprocessing.shape)
    config.output.add(name=OUTPUT_NAME, data_type=model_config_pb2.TYPE_FP32, dims=[len(spec.labels)])
    # The first run of a session is slow, and the first of its largest batch again.
    for batch_size in sorted({1, config.max_batch_size}):
        warmup = config.model_warmup.add(name=f"batch of {batch_size}", batch_size=batch_size)
        warmup.inputs[INPUT_NAME].data_type = model_config_pb2.TYPE_UINT8
        warmup.inputs[INPUT_NAME].dims.extend(spec.preprocessing.shape)
        warmup.inputs[INPUT_NAME].zero_data = True
    config.parameters[PROMOTIONS].string_value = " ".join(map(str, promotions))


def last_version(config: ModelConfig) -> int:
    """The highest number that a version of the model was ever given; 0 where none was."""
    text = config.parameters[LAST_VERSION].string_value if LAST_VERSION in config.parameters else ""
    return int(text) if text.isdecimal() else 0


def read_promotions(config: ModelConfig) -> list[int]:
    """The versions in the order in which they went live; the last one is live.

    Raises:
        RepositoryError: the configuration does not tell, so it is not Tamiz's.
    """
    text = config.parameters[PROMOTIONS].string_value if PROMOTIONS in config.parameters else ""
    try:
        promotions = [int(version) for version in text.split()]
    except ValueError:
        promotions = []
    if not promotions:
        raise RepositoryError(f"model {config.name}: config.pbtxt has no {PROMOTIONS}; Tamiz did not publish it")
    return promotions


def format_config(config: ModelConfig) -> str:
    """The text of config.pbtxt, which `parse_config` reads back to an equal message."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def parse_config(text: str, source: str) -> ModelConfig:
    """Read config.pbtxt.

    Raises:
        RepositoryError: it is not a model configuration.
    """
    config = ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as exc:
        raise RepositoryError(f"{source}: not a model configuration: {exc}") from exc
    return config
