"""Requests and replies as messages of Triton's gRPC service; no I/O here.

The messages are those of `tritonclient.grpc.service_pb2`. The client of that library wraps each tensor in objects and
copies its pixels three times; a classifier needs one copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from ..preprocessing import Pixels
from ..spec import INPUT_NAME, OUTPUT_NAME
from . import requests
from .requests import InferReply, Metadata, ModelState, OutputTensor, Request, VersionCounts


def encode(request: Request[Any]) -> Any:
    """The message of a request: for `ModelInfer` an `InferMessage`, otherwise a message of `service_pb2`."""
    match request:
        case requests.ModelInfer():
            return encode_infer(request)
        case requests.ModelConfig(model):
            return service_pb2.ModelConfigRequest(name=model)
        case requests.VersionStatistics(model):
            return service_pb2.ModelStatisticsRequest(name=model)
        case requests.ModelReady(model, version):
            return service_pb2.ModelReadyRequest(name=model, version="" if version is None else str(version))
        case requests.SystemSharedMemoryRegister(name, byte_size):
            return service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=byte_size)
        case requests.SystemSharedMemoryUnregister(name):
            return service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        case requests.RepositoryModelLoad(model, config):
            load = service_pb2.RepositoryModelLoadRequest(model_name=model)
            if config is not None:
                load.parameters["config"].string_param = config
            return load
        case _:
            return getattr(service_pb2, f"{request.method}Request")()


def decode(request: Request[Any], message: Any) -> Any:
    """The reply to a request, from its message."""
    match request:
        case requests.ModelInfer():
            return decode_infer(message)
        case requests.ModelConfig():
            return message.config
        case requests.ModelStatistics():
            return sorted({entry.name for entry in message.model_stats})
        case requests.VersionStatistics():
            return [
                VersionCounts(
                    int(entry.version or 0),
                    entry.inference_stats.success.count,
                    entry.inference_stats.fail.count,
                )
                for entry in message.model_stats
            ]
        case requests.ModelReady() | requests.ServerReady():
            return bool(message.ready)
        case requests.ServerMetadata():
            return Metadata(message.name, message.version)
        case requests.SystemSharedMemoryStatus():
            return frozenset(message.regions)
        case requests.RepositoryIndex():
            return [
                ModelState(entry.name, int(entry.version or 0), entry.state or "UNLOADED", entry.reason)
                for entry in message.models
            ]
        case _:
            return None


@dataclass(frozen=True, slots=True)
class InferMessage:
    """A ModelInferRequest whose pixels are copied only when it is serialized.

    Attributes:
        header: the message without the pixels.
        images: each uint8 ``[height, width, channels]``, contiguous; empty when the pixels are in shared memory.
    """

    header: service_pb2.ModelInferRequest
    images: Sequence[Pixels]

    def serialize(self) -> bytes:
        """The message as it travels.

        The parts of a protobuf message may stand one after another, so the pixels are copied once, to their place in
        the serialized message. Set as a field of the message, they would be copied twice more.
        """
        header: bytes = self.header.SerializeToString()
        if not self.images:
            return header
        size = _varint(sum(image.nbytes for image in self.images))
        return b"".join([header, _RAW_INPUT_CONTENTS, size, *(image.data for image in self.images)])


def encode_infer(request: requests.ModelInfer) -> InferMessage:
    """The message of an inference request."""
    header = service_pb2.ModelInferRequest(model_name=request.model, model_version=str(request.version))
    if request.deadline_us is not None:
        header.parameters[requests.DEADLINE_PARAMETER].int64_param = request.deadline_us
    tensor = header.inputs.add(name=INPUT_NAME, datatype="UINT8")
    tensor.shape.extend((len(request.images), *request.served.spec.preprocessing.shape))
    header.outputs.add(name=OUTPUT_NAME)
    if request.region is None:
        return InferMessage(header, request.images)
    tensor.parameters["shared_memory_region"].string_param = request.region
    tensor.parameters["shared_memory_byte_size"].int64_param = sum(image.nbytes for image in request.images)
    return InferMessage(header, ())


def decode_infer(message: service_pb2.ModelInferResponse) -> InferReply:
    """The reply to an inference request; without outputs where the contents do not belong to the outputs."""
    contents = message.raw_output_contents
    if len(contents) != len(message.outputs):
        return InferReply(message.model_version, ())
    return InferReply(
        message.model_version,
        tuple(
            OutputTensor(output.name, output.datatype, tuple(output.shape), content)
            for output, content in zip(message.outputs, contents, strict=True)
        ),
    )


# Field 7 of ModelInferRequest with wire type 2 (length-delimited). (protobuf.dev, "Encoding")
_RAW_INPUT_CONTENTS = bytes([7 << 3 | 2])


def _varint(number: int) -> bytes:
    """A number in protobuf's base-128 encoding: seven bits a byte, lowest first; all but the last have the high bit."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
