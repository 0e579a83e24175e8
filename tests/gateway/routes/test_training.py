"""Training through REST, end to end: real training on a few images, in processes of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from gateways import Answer, Gateway
from graphs import make_spec

from tamiz_gateway import TrainingSettings

pytestmark = pytest.mark.integration

Start = Callable[..., AbstractContextManager[Gateway]]

RECIPE = """
name: tiny
data: {kind: csv, root: none}
preprocessing: {height: 28, width: 28, colour: L}
model: {name: lenet5}
train: {epochs: 3, batch_size: 8, num_threads: 1}
tracking: {uri: null}
"""


@pytest.fixture
def training(tmp_path: Path) -> TrainingSettings:
    """Settings of jobs on 40 images, half of them dark and half of them light."""
    (tmp_path / "data").mkdir()
    for index in range(40):
        pixels = np.full((28, 28), 20 + index if index % 2 else 200 + index, np.uint8)
        cv2.imwrite(str(tmp_path / "data" / f"{index}.png"), pixels)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "secret.png").write_bytes((tmp_path / "data" / "0.png").read_bytes())
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    return TrainingSettings(
        data_dir=tmp_path / "data", jobs_dir=tmp_path / "jobs", recipe=str(tmp_path / "tiny.yaml"), max_jobs=3
    )


def request(paths: list[str] | None = None, **config: Any) -> dict[str, Any]:
    paths = [f"{index}.png" for index in range(40)] if paths is None else paths
    labels = [index % 2 for index in range(len(paths))]
    data = {"image_paths": paths, "labels": labels, "class_names": ["light", "dark"]}
    return {"training_data": data, "training_config": {"epochs": 2, "validation_split": 0.25, **config}}


def until(gateway: Gateway, job: str, *states: str) -> dict[str, Any]:
    end = time.monotonic() + 150
    while (document := gateway.get(f"/train/{job}").document)["status"] not in states:
        assert time.monotonic() < end, document
        time.sleep(0.1)
    return document


def test_a_job_is_trained_published_switched_to_and_classifies(
    start: Start, served: Any, training: TrainingSettings, tmp_path: Path
) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["old a", "old b"]))
    with start(model=name, training=training) as gateway:
        asked = gateway.post_json("/train", request())
        assert (asked.status, asked.document["success"], asked.document["status"]) == (202, True, "queued")
        job = asked.document["training_id"]
        document = until(gateway, job, "completed", "failed")
        assert document["status"] == "completed", document
        assert document["progress"] == {"epoch": 2, "epochs": 2}
        assert set(document["metrics"]) == {
            *("final_accuracy", "best_epoch", "training_time", "num_classes", "num_samples")
        }
        assert (document["metrics"]["num_classes"], document["metrics"]["num_samples"]) == (2, 40)
        assert 0 <= document["metrics"]["final_accuracy"] <= 1
        assert set(document["classification_report"]) == {"dark", "light"}
        assert set(document["classification_report"]["dark"]) == {"precision", "recall", "f1_score", "support"}
        assert Path(document["model_path"]).is_file()
        assert document["log"]
        # Published, not promoted.
        assert gateway.get("/models").document["current_model"] == f"{name}/1"
        assert gateway.post_json("/switch_model", {"model_id": document["model_id"]}).status == 200
        image = (tmp_path / "data" / "3.png").read_bytes()
        (result,) = gateway.post_form("/classify", ("file", ("3.png", image))).document["results"]
        assert result["predicted_class"] in ("dark", "light")
        assert gateway.request("DELETE", f"/train/{job}").status == 409


def test_jobs_run_one_at_a_time_and_can_be_cancelled(start: Start, training: TrainingSettings) -> None:
    with start(training=training) as gateway:
        first, second, third = (
            gateway.post_json("/train", request(epochs=5_000)).document["training_id"] for _ in range(3)
        )
        full = gateway.post_json("/train", request())
        assert (full.status, full.headers["retry-after"]) == (429, "1")
        until(gateway, first, "running")
        assert [gateway.get(f"/train/{job}").document["status"] for job in (second, third)] == ["queued", "queued"]
        for job in (second, first, third):
            assert gateway.request("DELETE", f"/train/{job}").status == 202
        for job in (first, second, third):
            assert until(gateway, job, "cancelled", "failed", "completed")["status"] == "cancelled"


def test_a_job_outlives_the_gateway_and_one_whose_processes_are_killed_is_failed_and_not_lost(
    start: Start, training: TrainingSettings
) -> None:
    with start(training=training) as gateway:
        lost = gateway.post_json("/train", request(epochs=5_000)).document["training_id"]
        waiting = gateway.post_json("/train", request(epochs=1)).document["training_id"]
        until(gateway, lost, "running")
    with start(training=training) as gateway:
        assert gateway.get(f"/train/{lost}").document["status"] == "running"
        for process in psutil.process_iter(["cmdline"]):
            if str(training.jobs_dir) in " ".join(process.info["cmdline"] or []):
                os.kill(process.pid, signal.SIGKILL)
        document = until(gateway, lost, "failed")
        assert "has ended without a result" in document["error"]
        assert document["success"] is False
        assert until(gateway, waiting, "completed", "failed")["status"] == "completed"


def test_a_training_that_fails_says_why_to_the_request_that_waits(start: Start, training: TrainingSettings) -> None:
    answer: Answer
    with start(training=training) as gateway:
        (training.data_dir or Path()).joinpath("bad.png").write_bytes(b"no image")
        answer = gateway.post_json("/train?wait=true", request(["bad.png"] * 4))
    assert (answer.status, answer.document["status"], answer.document["success"]) == (200, "failed", False)
    assert answer.document["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../secret.png", 403),
        ("/etc/passwd", 403),
        ("link.png", 403),
        ("a/../../secret.png", 403),
        ("none.png", 422),
        (".", 422),
        ("a\0b", 422),
        ("x" * 3_000, 422),
    ],
)
def test_only_images_below_the_data_folder_are_trained_on(
    start: Start, training: TrainingSettings, path: str, status: int
) -> None:
    with start(training=training) as gateway:
        answer = gateway.post_json("/train", request([path, "1.png"]))
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert not training.jobs_dir.exists()


def test_wrong_requests_are_problems(start: Start, training: TrainingSettings) -> None:
    good = request()
    data = good["training_data"]
    wrong = [
        {**good, "training_data": {**data, "labels": [0]}},
        {**good, "training_data": {**data, "labels": [7] * 40}},
        {**good, "training_data": {**data, "class_names": ["a", "a"]}},
        {**good, "training_data": {**data, "class_names": ["a", "b", "c"]}},
        {**good, "training_config": {"epochs": 0}},
        {**good, "training_config": {"validation_split": 1}},
        {**good, "training_config": {"lr": 1}},
        {},
    ]
    with start(training=training) as gateway:
        for document in wrong:
            assert gateway.post_json("/train", document).status == 422, document
        for job in ("none", "train_20260101_000000", "..%2F..", "x" * 200):
            assert gateway.get(f"/train/{job}").status in (404, 422)
            assert gateway.request("DELETE", f"/train/{job}").status in (404, 422)
    assert not training.jobs_dir.exists()


def test_a_wrong_recipe_of_the_gateway_leaves_no_job_behind(start: Start, training: TrainingSettings) -> None:
    with start(training=training.model_copy(update={"recipe": "none"})) as gateway:
        answer = gateway.post_json("/train", request())
    assert (answer.status, "none" in answer.document["detail"]) == (400, True)
    assert not list(training.jobs_dir.iterdir())


def test_without_a_data_folder_nothing_is_trained(gateway: Gateway) -> None:
    answer = gateway.post_json("/train", request())
    assert (answer.status, "TAMIZ_GATEWAY_DATA_DIR" in answer.document["detail"]) == (403, True)
