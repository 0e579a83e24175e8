from __future__ import annotations

import numpy as np
import pytest
from graphs import make_spec
from tritonclient.grpc import service_pb2

from tamiz.served_version import ServedVersion
from tamiz.transports.grpc_messages import decode_infer, encode_infer
from tamiz.transports.requests import InferReply, ModelInfer, OutputTensor

SPEC = make_spec(["cat", "dog"], height=2, width=3)
SERVED = ServedVersion("pets", 7, SPEC, 8)


def test_a_request_contains_the_version_and_the_pixels_in_order() -> None:
    images = [np.full((2, 3, 1), grey, np.uint8) for grey in (1, 2)]
    request = service_pb2.ModelInferRequest.FromString(encode_infer(ModelInfer(SERVED, images)).serialize())
    assert (request.model_name, request.model_version) == ("pets", "7")
    assert list(request.inputs[0].shape) == [2, 2, 3, 1]
    assert request.raw_input_contents[0] == b"\1" * 6 + b"\2" * 6


@pytest.mark.parametrize("side", [1, 11, 12, 127, 128, 3000])
def test_a_serialized_request_equals_the_one_that_protobuf_would_write(side: int) -> None:
    spec = make_spec(["cat", "dog"], height=side, width=side)
    images = [np.random.default_rng(0).integers(0, 255, (side, side, 1), np.uint8)]
    request = encode_infer(ModelInfer(ServedVersion("pets", 7, spec, 8), images))
    whole = service_pb2.ModelInferRequest()
    whole.CopyFrom(request.header)
    whole.raw_input_contents.append(images[0].tobytes())
    assert service_pb2.ModelInferRequest.FromString(request.serialize()) == whole


def test_a_request_through_shared_memory_carries_only_the_name_and_size_of_its_region() -> None:
    images = [np.zeros((2, 3, 1), np.uint8)] * 2
    request = service_pb2.ModelInferRequest.FromString(
        encode_infer(ModelInfer(SERVED, images, region="here")).serialize()
    )
    assert not request.raw_input_contents
    assert request.inputs[0].parameters["shared_memory_region"].string_param == "here"
    assert request.inputs[0].parameters["shared_memory_byte_size"].int64_param == 12


def test_a_reply_has_the_version_and_the_outputs_of_the_message() -> None:
    message = service_pb2.ModelInferResponse(model_name="pets", model_version="7")
    output = message.outputs.add(name="probabilities", datatype="FP32")
    output.shape.extend([1, 2])
    message.raw_output_contents.append(b"12345678")
    tensor = OutputTensor("probabilities", "FP32", (1, 2), b"12345678")
    assert decode_infer(message) == InferReply("7", (tensor,))


def test_an_output_without_content_is_ignored() -> None:
    message = service_pb2.ModelInferResponse(model_version="7")
    message.outputs.add(name="probabilities", datatype="FP32")
    assert decode_infer(message) == InferReply("7", ())
    message.raw_output_contents.extend([b"1234", b"5678"])
    assert decode_infer(message) == InferReply("7", ())
