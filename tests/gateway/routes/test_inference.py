from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from fleet import stalled
from gateways import Gateway, multipart, multipart_type
from graphs import make_spec

Image = Callable[..., Path]
PATH = "/v1/models/grey:classify"


def encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_a_raw_body_gets_one_prediction(gateway: Gateway, even_image: Image, kind: str) -> None:
    answer = gateway.request("POST", f"{PATH}?top_k=3", even_image(7).read_bytes(), {"content-type": kind})
    assert answer.status == 200
    assert set(answer.document) == {"position", "model", "version", "label", "index", "score", "top"}
    assert (answer.document["label"], answer.document["index"], answer.document["version"]) == ("grey 7", 7, 1)
    assert len(answer.document["top"]) == 3
    assert answer.document["top"][0] == {"label": "grey 7", "score": answer.document["score"]}


def test_multipart_and_json_get_a_list_in_which_an_unreadable_image_is_an_error(
    gateway: Gateway, even_image: Image
) -> None:
    files = [("a", ("a.png", even_image(1).read_bytes())), ("b", ("b.png", b"no image"))]
    images = [{"content": encode(even_image(1)), "name": "a.png"}, {"content": "bm8gaW1hZ2U=", "name": "b.png"}]
    by_form = gateway.post_form(PATH, *files).document
    assert by_form == gateway.post_json(PATH, {"images": images}).document
    first, second = by_form["predictions"]
    assert (first["name"], first["label"]) == ("a.png", "grey 1")
    assert (second["position"], second["name"], second["error"]["status"]) == (1, "b.png", 422)


def test_many_images_are_answered_as_lines(gateway: Gateway, even_image: Image) -> None:
    lines = b"\n".join(json.dumps({"content": encode(even_image(index % 10))}).encode() for index in range(100))
    answer = gateway.request("POST", PATH, lines, {"content-type": "application/x-ndjson"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert [(line["position"], line["index"]) for line in answer.lines] == [(index, index % 10) for index in range(100)]


def test_a_list_is_answered_as_lines_if_they_are_accepted(gateway: Gateway, even_image: Image) -> None:
    images = [{"content": encode(even_image(4))}, {"content": ""}]
    answer = gateway.post_json(PATH, {"images": images}, accept="application/x-ndjson")
    assert [line.get("label") for line in answer.lines] == ["grey 4", None]
    assert answer.lines[1]["error"]["error"] == "InvalidImageError"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[]", 422),
        ("application/json", b'{"images": []}', 422),
        ("application/json", b'{"images": [{"content": "?"}]}', 422),
        ("application/json", b'{"images": [{"content": 5}]}', 422),
        ("application/json", b'{"images": [{"content": "\\ud800"}]}', 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/x-ndjson", b'{"content": "YQ=="}\n{', 400),
        ("application/x-ndjson", b"", 422),
        ("image/png", b"", 422),
        ("image/png", b"no image", 422),
        ("image/png", b"\x89PNG\r\n\x1a\n", 422),
        ("text/plain", b"hello", 415),
        ("application/xml", b"<a/>", 415),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        (multipart_type(), multipart(("a", ("a.png", b"x")))[:-20], 400),
        (multipart_type(), multipart(("a", "only a field")), 422),
    ],
)
def test_a_malformed_body_is_a_problem(gateway: Gateway, kind: str, body: bytes, status: int) -> None:
    answer = gateway.request("POST", PATH, body, {"content-type": kind})
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.content
    assert answer.document["status"] == status
    assert answer.document["detail"]


@pytest.mark.parametrize(("query", "status"), [("top_k=0", 422), ("top_k=x", 422), ("top_k=1000", 200)])
def test_top_k_is_a_whole_number(gateway: Gateway, even_image: Image, query: str, status: int) -> None:
    assert gateway.request("POST", f"{PATH}?{query}", even_image(1).read_bytes()).status == status


@pytest.mark.parametrize("name", ["none", "..%2F..%2Fetc", "%00", "x" * 300, "%F0%9F%98%80"])
def test_an_unknown_model_is_not_found(gateway: Gateway, even_image: Image, name: str) -> None:
    answer = gateway.request("POST", f"/v1/models/{name}:classify", even_image(1).read_bytes())
    assert answer.status in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_any_model_of_the_server_can_be_named(gateway: Gateway, served: Any, even_image: Image) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["dark", "light"]))
    answer = gateway.request("POST", f"/v1/models/{name}:classify", even_image(1, 2).read_bytes())
    assert (answer.document["label"], answer.document["model"]) == ("light", name)
    described = gateway.get(f"/v1/models/{name}").document
    assert (described["version"], described["spec"]["labels"]) == (1, ["dark", "light"])


def test_the_timeout_header_becomes_the_deadline(gateway: Gateway, served: Any, even_image: Image) -> None:
    body = even_image(1).read_bytes()
    assert gateway.request("POST", PATH, body, {"x-request-timeout": "30"}).status == 200
    with stalled(served.triton):
        answer = gateway.request("POST", PATH, body, {"x-request-timeout": "0.5"})
        several = gateway.post_form(PATH, ("a", ("a", body)), ("b", ("b", body)), **{"x-request-timeout": "0.5"})
    assert (answer.status, answer.document["error"]) == (504, "DeadlineError")
    assert several.status == 504
    assert gateway.request("POST", PATH, body).status == 200


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "1e9", ""])
def test_a_wrong_timeout_is_a_problem(gateway: Gateway, even_image: Image, text: str) -> None:
    assert gateway.request("POST", PATH, even_image(1).read_bytes(), {"x-request-timeout": text}).status == 400


def test_images_with_too_many_pixels_are_not_decoded(
    start: Callable[..., AbstractContextManager[Gateway]], even_image: Image
) -> None:
    with start(max_pixels=1_000) as gateway:
        answer = gateway.request("POST", PATH, even_image(1).read_bytes())
    assert (answer.status, "the limit is 1,000" in answer.document["detail"]) == (422, True)
