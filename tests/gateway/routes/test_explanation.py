from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gateways import Gateway

from tamiz_release import PublicationOptions, publish_run
from tamiz_train import Run

pytestmark = pytest.mark.integration

Start = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture
def digit(digits: Path) -> tuple[str, bytes]:
    path = sorted((digits / "test" / "7").glob("*.png"))[0]
    return path.name, path.read_bytes()


def test_the_live_version_is_explained_by_its_run(
    start: Start, served: Any, trained: Run, digit: tuple[str, bytes]
) -> None:
    name = served.new_name()
    publish_run(trained, served.repository, model=name, options=PublicationOptions(control=served.control))
    with start(model=name, runs_dir=trained.path.parents[1]) as gateway:
        answer = gateway.post_form("/explain", ("file", digit))
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png"), answer.content
        overlay = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert overlay.shape == (224, 224, 3)
        assert answer.headers["x-model-id"] == f"{name}/1"
        (result,) = gateway.post_form("/classify", ("file", digit)).document["results"]
        assert answer.headers["x-label"] == result["predicted_class"]
        assert float(answer.headers["x-score"]) == pytest.approx(result["confidence"], abs=1e-3)
        other = gateway.post_form("/explain", ("file", digit), ("label", "3"))
        assert (other.status, other.headers["x-label"], other.content != answer.content) == (200, "3", True)
        unknown = gateway.post_form("/explain", ("file", digit), ("label", "cat"))
        assert (unknown.status, "no label 'cat'" in unknown.document["detail"]) == (422, True)
        assert gateway.post_form("/explain", ("file", ("a.png", b"no image"))).status == 422
        assert gateway.post_form("/explain", ("file", digit), ("file", digit)).status == 422
        assert gateway.request("POST", "/explain", digit[1], {"content-type": "image/png"}).status == 415


def test_a_version_whose_run_is_not_here_cannot_be_explained(gateway: Gateway, digit: tuple[str, bytes]) -> None:
    answer = gateway.post_form("/explain", ("file", digit))
    assert (answer.status, answer.document["error"]) == (404, "RunError")
