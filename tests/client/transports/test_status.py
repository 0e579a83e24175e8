from __future__ import annotations

import pytest

from tamiz import errors
from tamiz.transports.requests import ModelReady
from tamiz.transports.status import RegionNotRegisteredError, RegionRegisteredError, how_to_start, make_error


@pytest.mark.parametrize(
    ("by_code", "details", "kind"),
    [
        (errors.ModelNotFoundError, "Request for unknown model: 'x' is not found", errors.ModelNotFoundError),
        (
            errors.UnavailableError,
            "Request for unknown model: 'x' version 1 is not at ready state",
            errors.ModelNotFoundError,
        ),
        (errors.UnavailableError, "[request id: <id_unknown>] Exceeds maximum queue size", errors.OverloadedError),
        (errors.UnavailableError, "Request timeout expired", errors.OverloadedError),
        (errors.UnavailableError, "failed to connect to all addresses", errors.UnavailableError),
        (
            errors.UnavailableError,
            "failed to connect; Tls handshake failed: CERTIFICATE_VERIFY_FAILED",
            errors.AccessError,
        ),
        (errors.DeadlineError, "Deadline Exceeded", errors.DeadlineError),
        (errors.ModelNotFoundError, "Unable to find shared memory region: 'x'", RegionNotRegisteredError),
        (errors.InvalidRequestError, "shared memory region 'x' already in manager", RegionRegisteredError),
        (errors.OverloadedError, "Received message larger than max (9 vs. 8)", errors.InvalidRequestError),
        (errors.OverloadedError, "", errors.OverloadedError),
        (errors.InvalidRequestError, "unexpected shape for input 'image'", errors.InvalidRequestError),
        (errors.AccessError, "", errors.AccessError),
        (errors.InferenceError, "onnx runtime error", errors.InferenceError),
        (errors.InferenceError, "Stub process 'x_0_1' is not healthy.", errors.UnavailableError),
    ],
)
def test_a_failure_becomes_the_error_that_its_message_implies(
    by_code: type[errors.ServerError], details: str, kind: type[errors.ServerError]
) -> None:
    error = make_error(by_code, details, status="CODE", request=ModelReady("x", 1), url="grpc://here")
    assert type(error) is kind
    assert (error.model, error.version, error.url) == ("x", 1, "grpc://here")
    assert details in str(error) or kind is errors.DeadlineError


@pytest.mark.parametrize(
    ("by_code", "text"),
    [
        (errors.UnavailableError, "This protocol is restricted, expecting header 'triton-grpc-protocol-triton-key'"),
        (errors.AccessError, "This API is restricted, expecting header 'triton-key'"),
    ],
)
def test_an_error_about_the_key_says_how_to_give_it_and_names_no_header(
    by_code: type[errors.ServerError], text: str
) -> None:
    error = make_error(by_code, text, status="CODE", request=ModelReady("x", 1), url="grpc://here")
    assert isinstance(error, errors.AccessError)
    assert "the key is missing or wrong; give the key that `tamiz serve` prints, by --key" in str(error)
    assert "header" not in str(error)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("grpc://localhost:8001", "; start one with `tamiz serve`"),
        ("dns:///localhost:8001", "; start one with `tamiz serve`"),
        ("http://127.0.0.1:8000", "; start one with `tamiz serve`"),
        ("grpc://[::1]:9001", "; start one with `tamiz serve --grpc-port 9001`"),
        ("http://localhost:8001", "; start one with `tamiz serve --http-port 8001`"),
        ("grpcs://localhost:8001", "; check the URL, and that the server is running"),
        ("grpc://triton.example:8001", "; check the URL, and that the server is running"),
    ],
)
def test_an_error_about_a_missing_server_says_how_to_start_one(url: str, remedy: str) -> None:
    assert how_to_start(url) == remedy
