from __future__ import annotations

import json

import pytest

from tamiz import errors
from tamiz_gateway.problems import problem_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidImageError("a.png: empty"), 422),
        (errors.UsageError("wrong"), 400),
        (errors.OverloadedError("full"), 429),
        (errors.DeadlineError("late"), 504),
        (errors.UnavailableError("away"), 503),
        (errors.ModelNotFoundError("not loaded"), 503),
        (errors.ClosedError("closed"), 503),
        (errors.AccessError("denied"), 502),
        (errors.InferenceError("failed"), 502),
        (errors.SpecError("unknown"), 502),
        (errors.RepositoryError("damaged"), 503),
        (errors.MissingExtraError("train,cpu", "torch"), 501),
    ],
)
def test_every_error_has_a_status(error: errors.TamizError, status: int) -> None:
    problem = problem_of(error)
    response = problem.to_response()
    document = json.loads(response.body)
    assert (response.status_code, document["status"], document["error"]) == (status, status, type(error).__name__)
    assert response.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in response.headers) == (status in (429, 503))


def test_what_goes_on_behind_the_gateway_is_not_told() -> None:
    for kind in (errors.UnavailableError, errors.AccessError, errors.RepositoryError):
        assert "10.0.0.7" not in str(problem_of(kind("grpc://10.0.0.7:8001 is away")).to_dict())
