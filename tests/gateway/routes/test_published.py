"""The published contract, field by field, against a real Triton."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateways import Gateway
from graphs import make_spec, write_colour_graph

from tamiz_release import Candidate, GateImages, publish_candidate
from tamiz_server import rollback
from tamiz_train.labelled_images import LabelledImages

Start = Callable[..., AbstractContextManager[Gateway]]
Image = Callable[..., Path]


def file(path: Path) -> tuple[str, bytes]:
    return path.name, path.read_bytes()


def test_one_file_gets_its_label(gateway: Gateway, even_image: Image) -> None:
    answer = gateway.post_form("/classify", ("file", file(even_image(7))))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert set(answer.document) == {"success", "processing_time", "results"}
    assert answer.document["success"] is True
    assert 0 < answer.document["processing_time"] < 60
    (result,) = answer.document["results"]
    assert set(result) == {"filename", "predicted_class", "predicted_class_id", "confidence"}
    assert (result["filename"], result["predicted_class"], result["predicted_class_id"]) == ("7-of-10.png", "grey 7", 7)
    assert 0.9 < result["confidence"] <= 1


@pytest.mark.parametrize(("given", "returned"), [("true", True), ("false", False), ("1", True), ("0", False)])
def test_probabilities_of_all_labels_are_returned_if_asked_for(
    gateway: Gateway, even_image: Image, given: str, returned: bool
) -> None:
    answer = gateway.post_form("/classify", ("file", file(even_image(2))), ("return_probabilities", given))
    (result,) = answer.document["results"]
    assert ("all_probabilities" in result) is returned
    if returned:
        assert set(result["all_probabilities"]) == {f"grey {index}" for index in range(10)}
        assert sum(result["all_probabilities"].values()) == pytest.approx(1)
        assert max(result["all_probabilities"], key=result["all_probabilities"].__getitem__) == "grey 2"


def test_a_flag_that_is_neither_true_nor_false_is_a_problem(gateway: Gateway, even_image: Image) -> None:
    answer = gateway.post_form("/classify", ("file", file(even_image(2))), ("return_probabilities", "perhaps"))
    assert (answer.status, answer.document["detail"]) == (422, "return_probabilities: give true or false")


def test_several_files_are_answered_in_order_and_an_unreadable_one_is_an_error_in_its_result(
    gateway: Gateway, even_image: Image
) -> None:
    files = [("files", file(even_image(index))) for index in range(10)]
    files.insert(4, ("files", ("bad.png", b"no image")))
    answer = gateway.post_form("/classify", *files)
    results = answer.document["results"]
    assert (answer.status, answer.document["success"]) == (200, True)
    assert [result.get("predicted_class_id") for result in results] == [0, 1, 2, 3, None, 4, 5, 6, 7, 8, 9]
    assert set(results[4]) == {"filename", "error"}
    assert results[4]["error"].startswith("bad.png: not an image")


def test_a_request_without_a_readable_image_fails_with_its_results(gateway: Gateway) -> None:
    answer = gateway.post_form("/classify", ("file", ("bad.png", b"no image")))
    assert (answer.status, answer.document["success"]) == (422, False)
    assert answer.document["results"] == [{"filename": "bad.png", "error": answer.document["detail"]}]


def test_a_model_with_several_labels_returns_those_at_or_above_their_thresholds(
    start: Start, served: Any, even_image: Image
) -> None:
    name = served.new_name()
    spec = make_spec(["dark", "middle", "light"], task="multilabel", thresholds=(0.2, 0.3, 0.9))
    served.publish(name, spec)
    with start(model=name) as gateway:
        answer = gateway.post_form("/classify", ("file", file(even_image(0, 3))))
    (result,) = answer.document["results"]
    assert (result["predicted_class"], result["labels"]) == ("dark", ["dark"])


def test_versions_are_listed_and_switched(start: Start, served: Any, even_image: Image) -> None:
    name = served.new_name()
    served.publish(name, make_spec([f"old {index}" for index in range(10)]))
    served.publish(name, make_spec([f"new {index}" for index in range(4)]))
    with start(model=name) as gateway:
        listed = gateway.get("/models").document
        assert listed["current_model"] == f"{name}/1"
        assert [set(each) for each in listed["available_models"]] == [
            {"model_id", "created_date", "num_classes", "accuracy", "status"}
        ] * 2
        assert [(each["model_id"], each["num_classes"], each["status"]) for each in listed["available_models"]] == [
            (f"{name}/1", 10, "active"),
            (f"{name}/2", 4, "archived"),
        ]
        assert gateway.post_form("/classify", ("file", file(even_image(3)))).document["results"][0][
            "predicted_class"
        ] == ("old 3")
        switched = gateway.post_json("/switch_model", {"model_id": f"{name}/2"})
        assert (switched.status, switched.document) == (
            200,
            {"success": True, "current_model": f"{name}/2", "previous_model": f"{name}/1"},
        )
        assert gateway.get("/models").document["current_model"] == f"{name}/2"
        image = file(even_image(3, 4))
        assert gateway.post_form("/classify", ("file", image)).document["results"][0]["predicted_class"] == "new 3"
        # The gateway follows what others do as well.
        rollback(served.repository, name, control=served.control)
        assert gateway.get("/models").document["current_model"] == f"{name}/1"
        assert gateway.post_form("/classify", ("file", file(even_image(5)))).document["results"][0][
            "predicted_class"
        ] == ("old 5")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model_id": "grey/99"}, 404),
        ({"model_id": "other/1"}, 404),
        ({"model_id": "../../etc/1"}, 404),
        ({"model_id": "grey/01"}, 404),
        ({"model_id": "grey/²"}, 404),
        ({"model_id": 5}, 422),
        ({"model_id": "x" * 1_000}, 422),
        ({"model_id": "grey/1", "more": 1}, 422),
        ({}, 422),
        ([], 422),
    ],
)
def test_a_version_that_is_not_there_cannot_be_switched_to(gateway: Gateway, body: Any, status: int) -> None:
    answer = gateway.post_json("/switch_model", body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert gateway.get("/models").document["current_model"] == "grey/1"


def test_the_performance_of_a_version_is_what_the_gate_measured(start: Start, served: Any, tmp_path: Path) -> None:
    name, labels = served.new_name(), ["red", "green", "blue"]
    spec = make_spec(labels, height=8, width=8, colour="RGB")
    graph = write_colour_graph(tmp_path / "model.onnx", spec)
    images = []
    for index in range(30):
        # Every tenth image has the colour of another label.
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., 0 if index % 10 == 9 else index % 3] = 200
        images.append(pixels)
    labelled = LabelledImages("test", images, [(labels[index % 3],) for index in range(30)])
    candidate = Candidate(graph, spec)
    publish_candidate(candidate, served.repository, name, images=GateImages("test images", labelled))
    with start(model=name) as gateway:
        document = gateway.get("/model_performance").document
        assert gateway.get(f"/model_performance?model_id={name}/1").document == document
        accuracy = gateway.get("/models").document["available_models"][0]["accuracy"]
    assert document["model_id"] == f"{name}/1"
    assert set(document["performance_metrics"]) == {"accuracy", "precision", "recall", "f1_score"}
    # Images 9, 19 and 29 are red; their labels are red, green and blue.
    assert document["performance_metrics"]["accuracy"] == pytest.approx(28 / 30) == accuracy
    assert document["confusion_matrix"] == [[10, 0, 0], [1, 9, 0], [1, 0, 9]]
    assert document["per_class_metrics"]["green"] == {
        "precision": 1.0,
        "recall": 0.9,
        "f1_score": pytest.approx(18 / 19),
        "support": 10,
    }
    assert document["class_names"] == labels


def test_the_performance_of_a_version_that_was_not_measured_is_empty(gateway: Gateway) -> None:
    document = gateway.get("/model_performance?model_id=grey/1").document
    assert document["performance_metrics"] == dict.fromkeys(("accuracy", "precision", "recall", "f1_score"))
    assert (document["per_class_metrics"], document["confusion_matrix"]) == (None, None)
    assert gateway.get("/model_performance?model_id=grey/99").status == 404


def test_the_monitor_shows_predictions_by_version_and_window(gateway: Gateway, even_image: Image) -> None:
    gateway.post_form("/classify", *[("files", file(even_image(index))) for index in range(5)])
    gateway.post_form("/classify", ("file", ("bad.png", b"no image")))
    document = gateway.get("/monitor").document
    assert set(document) == {"uptime_s", "1m", "1h", "start"}
    for window in ("1m", "1h", "start"):
        figures = document[window]
        assert figures["predictions"] == 5
        assert 0 < figures["average_inference_time_s"] < 60
        assert 0.9 < figures["average_confidence"] <= 1
        assert figures["low_confidence_share"] == 0
        assert figures["throughput"] > 0
        assert [(each["model"], each["version"]) for each in figures["versions"]] == [("grey", 1)]
