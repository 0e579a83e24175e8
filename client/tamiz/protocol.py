"""Triton's gRPC protocol as Tamiz speaks it: build a request, read a reply, name an error. No I/O here.

The messages are those of `tritonclient.grpc.service_pb2`; its own client wraps each tensor in objects and
copies that a classifier can do without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from .errors import (
    AccessError,
    DeadlineError,
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from .prediction import Prediction, interpret
from .preprocessing import Pixels
from .served_version import ServedVersion
from .spec import INPUT_NAME, OUTPUT_NAME


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request for the probabilities of some images.

    Attributes:
        header: all of the message but the pixels.
        images: each uint8 ``[height, width, channels]``, contiguous; none where they stand in shared memory.
    """

    header: service_pb2.ModelInferRequest
    images: Sequence[Pixels]

    def serialize(self) -> bytes:
        """The message on the wire.

        The parts of a protobuf message may simply stand one behind the other, so the pixels are copied once, into
        their place. Set in the message they would be copied twice more.
        """
        header: bytes = self.header.SerializeToString()
        if not self.images:
            return header
        size = _varint(sum(image.nbytes for image in self.images))
        return b"".join([header, _RAW_INPUT_CONTENTS, size, *(image.data for image in self.images)])


def infer_request(served: ServedVersion, images: Sequence[Pixels], *, region: str | None = None) -> InferRequest:
    """Make a request.

    Args:
        served: the version that the images were prepared for, which the request names.
        images: at least one, each uint8 ``[height, width, channels]``, contiguous.
        region: of shared memory, in which the images stand from its beginning; the request names it in their place.
    """
    header = service_pb2.ModelInferRequest(model_name=served.model, model_version=str(served.version))
    tensor = header.inputs.add(name=INPUT_NAME, datatype="UINT8")
    tensor.shape.extend((len(images), *served.spec.preprocessing.shape))
    header.outputs.add(name=OUTPUT_NAME)
    if region is None:
        return InferRequest(header, images)
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = sum(image.nbytes for image in images)
    return InferRequest(header, ())


# Field 7 of ModelInferRequest, of variable length, as protobuf encodes it.
_RAW_INPUT_CONTENTS = bytes([7 << 3 | 2])


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, each but the last with its high bit set."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def read_reply(
    reply: service_pb2.ModelInferResponse, served: ServedVersion, positions: Sequence[int], *, top_k: int, url: str
) -> list[Prediction]:
    """The predictions in a reply.

    Args:
        reply: of the server.
        served: the version that was asked.
        positions: of the images that it was asked for, among the caller's.
        top_k: how many labels each prediction's ``top`` holds.
        url: of the server, for the error.

    Raises:
        InferenceError: the reply is not of that version, or not of the shape ``[images, classes]``.
    """
    shape = (len(positions), len(served.spec.labels))
    fits = (
        reply.model_version == str(served.version)
        and len(reply.outputs) == len(reply.raw_output_contents) == 1
        and tuple(reply.outputs[0].shape) == shape
        and reply.outputs[0].datatype == "FP32"
    )
    if not fits:
        outputs = ", ".join(f"{out.name} {out.datatype} {list(out.shape)}" for out in reply.outputs)
        raise InferenceError(
            f"model {served.model}: asked version {served.version} for {OUTPUT_NAME} FP32 {list(shape)}, "
            f"version {reply.model_version} answered {outputs or 'nothing'}",
            model=served.model,
            version=served.version,
            url=url,
        )
    probabilities = np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(shape)
    return interpret(
        probabilities, served.spec, top_k=top_k, version=served.version, model=served.model, positions=positions
    )


def error_from_rpc(exc: grpc.RpcError, *, url: str, model: str = "", version: int | None = None) -> ServerError:
    """The `ServerError` that a failed call means.

    Triton's status codes do not tell enough: ``UNAVAILABLE`` stands for a full queue, a version that was
    unloaded, a missing key and a server that is not there. Only the text tells them apart.

    Args:
        exc: what gRPC raised.
        url: of the server.
        model: asked for.
        version: asked for.
    """
    code, text = exc.code(), exc.details() or ""
    what = f"model {model}" + (f" version {version}" if version is not None else "") if model else "the call"
    kind: type[ServerError]
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        kind, message = DeadlineError, f"{what}: {url} gave no answer in time"
    elif "shared memory region" in text:
        kind, message = InvalidRequestError, f"{what}: {url}: {text}"
    elif code is grpc.StatusCode.NOT_FOUND or "is not at ready state" in text:
        kind, message = ModelNotFoundError, f"{what} is not on {url}: {text}"
    elif "handshake failed" in text or "verification check failed" in text:
        kind, message = AccessError, f"{what}: no encrypted connection to {url}: {text}"
    elif "protocol is restricted" in text or code in _REFUSED:
        kind, message = AccessError, f"{what}: {url} wants a key, or another than it was given: {text}"
    elif "larger than max" in text:
        kind, message = InvalidRequestError, f"{what}: a message to or from {url} is too large: {text}"
    elif "Exceeds maximum queue size" in text or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        kind, message = OverloadedError, f"{what}: the queue of {url} is full: {text}"
    elif code is grpc.StatusCode.UNAVAILABLE and "Request timeout expired" in text:
        kind, message = OverloadedError, f"{what}: the request waited too long in the queue of {url}: {text}"
    elif "Stub process" in text and "is not healthy" in text:
        # Of the Python backend: the process of one instance died, or stood still for a second; others may compute.
        kind, message = UnavailableError, f"{what}: a process of {url} is lost: {text}"
    elif code is grpc.StatusCode.UNAVAILABLE:
        kind, message = UnavailableError, f"no server answers at {url}: {text}"
    elif code in _WRONG:
        kind, message = InvalidRequestError, f"{what}: {url} refused the request: {text}"
    else:
        kind, message = InferenceError, f"{what} failed on {url}: {code.name}: {text}"
    return kind(message, model=model, version=version, url=url)


_REFUSED = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
_WRONG = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OUT_OF_RANGE}
