from __future__ import annotations

import grpc
import numpy as np
import pytest
from graphs import make_spec
from tritonclient.grpc import model_config_pb2, service_pb2

from tamiz import SpecError, errors
from tamiz.protocol import error_from_rpc, infer_request, read_reply
from tamiz.served_version import ServedVersion, read_served_version

SPEC = make_spec(["cat", "dog"], height=2, width=3)
SERVED = ServedVersion("pets", 7, SPEC, 8)


class Failure(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def reply(values: list[list[float]], version: str = "7") -> service_pb2.ModelInferResponse:
    array = np.array(values, np.float32)
    message = service_pb2.ModelInferResponse(model_name="pets", model_version=version)
    output = message.outputs.add(name="probabilities", datatype="FP32")
    output.shape.extend(array.shape)
    message.raw_output_contents.append(array.tobytes())
    return message


def config(**parameters: str) -> model_config_pb2.ModelConfig:
    message = model_config_pb2.ModelConfig(name="pets", max_batch_size=8)
    message.version_policy.specific.versions.append(7)
    message.input.add(name="image", dims=[2, 3, 1])
    for name, value in parameters.items():
        message.parameters[name.replace("__", ".")].string_value = value
    return message


def test_a_request_names_the_version_and_carries_the_pixels_in_order() -> None:
    images = [np.full((2, 3, 1), grey, np.uint8) for grey in (1, 2)]
    request = service_pb2.ModelInferRequest.FromString(infer_request(SERVED, images).serialize())
    assert (request.model_name, request.model_version) == ("pets", "7")
    assert list(request.inputs[0].shape) == [2, 2, 3, 1]
    assert request.raw_input_contents[0] == b"\1" * 6 + b"\2" * 6


@pytest.mark.parametrize("side", [1, 11, 12, 127, 128, 3000])
def test_a_request_on_the_wire_is_what_protobuf_itself_would_write(side: int) -> None:
    spec = make_spec(["cat", "dog"], height=side, width=side)
    images = [np.random.default_rng(0).integers(0, 255, (side, side, 1), np.uint8)]
    request = infer_request(ServedVersion("pets", 7, spec, 8), images)
    whole = service_pb2.ModelInferRequest()
    whole.CopyFrom(request.header)
    whole.raw_input_contents.append(images[0].tobytes())
    assert service_pb2.ModelInferRequest.FromString(request.serialize()) == whole


def test_a_request_through_shared_memory_carries_its_place_only() -> None:
    images = [np.zeros((2, 3, 1), np.uint8)] * 2
    request = service_pb2.ModelInferRequest.FromString(infer_request(SERVED, images, region="here").serialize())
    assert not request.raw_input_contents
    assert request.inputs[0].parameters["shared_memory_region"].string_param == "here"
    assert request.inputs[0].parameters["shared_memory_byte_size"].int64_param == 12


def test_a_reply_becomes_predictions_with_the_versions_labels() -> None:
    first, second = read_reply(reply([[0.9, 0.1], [0.2, 0.8]]), SERVED, [0, 1], top_k=5, url="")
    assert (first.label, second.label) == ("cat", "dog")
    assert [scored.label for scored in second.top] == ["dog", "cat"]
    assert second.score == pytest.approx(0.8)
    assert second.version == 7
    assert [first.position, second.position] == [0, 1]


def test_of_equal_probabilities_the_first_label_wins_whatever_top_k() -> None:
    for top_k in (1, 2):
        (prediction,) = read_reply(reply([[0.5, 0.5]]), SERVED, [0], top_k=top_k, url="")
        assert prediction.label == "cat"


def test_multilabel_predictions_hold_all_labels_at_or_over_their_thresholds() -> None:
    spec = make_spec(["cat", "dog", "cow"], height=2, width=3, task="multilabel", thresholds=(0.5, 0.25, 0.75))
    served = ServedVersion("pets", 7, spec, 8)
    (prediction,) = read_reply(reply([[0.5, 0.9, 0.7]]), served, [0], top_k=1, url="")
    assert [scored.label for scored in prediction.labels] == ["dog", "cat"]


@pytest.mark.parametrize(
    ("message", "count"),
    [
        pytest.param(reply([[0.9, 0.1]], version="8"), 1, id="of another version"),
        pytest.param(reply([[0.9, 0.1]]), 2, id="for fewer images"),
        pytest.param(reply([[0.9, 0.1, 0.0]]), 1, id="with more classes"),
        pytest.param(service_pb2.ModelInferResponse(model_version="7"), 1, id="empty"),
    ],
)
def test_a_reply_that_is_not_the_answer_is_an_error(message: service_pb2.ModelInferResponse, count: int) -> None:
    with pytest.raises(errors.InferenceError, match="asked version 7"):
        read_reply(message, SERVED, range(count), top_k=1, url="")


def test_the_live_version_is_read_from_the_configuration() -> None:
    assert read_served_version(config(tamiz__spec__7=SPEC.to_json())) == SERVED


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(config(), "no spec for version 7", id="no spec"),
        pytest.param(config(tamiz__spec__7="{"), "version 7: not JSON", id="broken spec"),
        pytest.param(
            config(tamiz__spec__7=make_spec(["cat", "dog"]).to_json()),
            r"the server takes .*\[2, 3, 1\]",
            id="unfit",
        ),
        pytest.param(model_config_pb2.ModelConfig(name="pets"), "names no live version", id="no version"),
    ],
)
def test_a_configuration_without_a_fitting_spec_is_refused(message: model_config_pb2.ModelConfig, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        read_served_version(message)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", errors.ModelNotFoundError),
        (
            "UNAVAILABLE",
            "Request for unknown model: 'x' version 1 is not at ready state",
            errors.ModelNotFoundError,
        ),
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", errors.OverloadedError),
        ("UNAVAILABLE", "Request timeout expired", errors.OverloadedError),
        ("UNAVAILABLE", "This protocol is restricted, expecting header 'x'", errors.AccessError),
        ("UNAVAILABLE", "failed to connect to all addresses", errors.UnavailableError),
        ("UNAVAILABLE", "failed to connect; Tls handshake failed: CERTIFICATE_VERIFY_FAILED", errors.AccessError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineError),
        ("NOT_FOUND", "Unable to find shared memory region: 'x'", errors.InvalidRequestError),
        ("INVALID_ARGUMENT", "unexpected shape for input 'image'", errors.InvalidRequestError),
        ("UNAUTHENTICATED", "", errors.AccessError),
        ("INTERNAL", "onnx runtime error", errors.InferenceError),
        ("INTERNAL", "Stub process 'x_0_1' is not healthy.", errors.UnavailableError),
    ],
)
def test_each_status_of_triton_is_the_error_that_it_means(code: str, details: str, kind: type[Exception]) -> None:
    error = error_from_rpc(Failure(grpc.StatusCode[code], details), url="grpc://here", model="x", version=1)
    assert type(error) is kind
    assert (error.model, error.version, error.url) == ("x", 1, "grpc://here")
    assert details in str(error) or kind is errors.DeadlineError
