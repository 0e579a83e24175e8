"""What every request meets first: limits, keys, names, the access log."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from fleet import stalled, until
from gateways import Gateway

Start = Callable[..., AbstractContextManager[Gateway]]
Image = Callable[..., Path]
PATH = "/v1/models/grey:classify"


def raw(gateway: Gateway, request: bytes) -> bytes:
    """Send bytes, and return what comes back until the gateway closes the connection or is silent for a second."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(request)
        connection.settimeout(3)
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except TimeoutError:
            pass
        return received


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(gateway: Gateway) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**9}\r\n\r\n"
    reply = raw(gateway, head.encode())
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in reply


def test_a_body_that_grows_too_large_while_it_streams_is_refused(start: Start) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1_000
            yield b"x" * 1_000

    with start(max_body_bytes=5_000) as gateway:
        answer = gateway.request("POST", PATH, chunks())
    assert answer.status == 413


def test_a_body_that_does_not_arrive_ends_with_the_time_for_bodies(start: Start) -> None:
    with start(body_timeout_s=0.5) as gateway:
        reply = raw(gateway, f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc".encode())
    assert reply.startswith(b"HTTP/1.1 408 ")


def test_too_many_images_in_a_request_are_refused(start: Start, even_image: Image) -> None:
    image = ("a.png", even_image(1).read_bytes())
    with start(max_files=3) as gateway:
        assert gateway.post_form("/classify", *[("files", image)] * 3).status == 200
        assert gateway.post_form("/classify", *[("files", image)] * 4).status == 413
        assert gateway.post_form("/classify", *[("files", image)] * 40).status == 413


def test_too_many_requests_at_a_time_are_refused_and_health_is_answered(
    start: Start, served: Any, even_image: Image
) -> None:
    image = even_image(1).read_bytes()
    with start(max_requests=2) as gateway, ThreadPoolExecutor(2) as pool:
        gateway.request("POST", PATH, image)
        with stalled(served.triton):
            calls = [pool.submit(gateway.request, "POST", PATH, image, {"x-request-timeout": "5"}) for _ in range(2)]
            until(lambda: b"in_flight 2.0" in gateway.get("/metrics").content)
            answer = gateway.request("POST", PATH, image)
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
            assert gateway.get("/healthz").status == 200
        assert [call.result().status for call in calls] == [200, 200]
        assert gateway.request("POST", PATH, image).status == 200


def test_bodies_that_are_held_together_are_limited(start: Start, served: Any, even_image: Image) -> None:
    # Bytes after the end of a PNG file are ignored.
    image = even_image(1).read_bytes() + b"\0" * 3_000
    with start(max_body_bytes=4_000, max_buffered_bytes=6_000) as gateway, ThreadPoolExecutor(1) as pool:
        gateway.request("POST", PATH, image)
        with stalled(served.triton):
            call = pool.submit(gateway.request, "POST", PATH, image)
            until(lambda: b"in_flight 1.0" in gateway.get("/metrics").content)
            time.sleep(0.2)
            assert gateway.request("POST", PATH, image).status == 429
        assert call.result().status == 200
        assert gateway.request("POST", PATH, image).status == 200


def test_routes_need_their_keys_and_health_needs_none(start: Start, even_image: Image) -> None:
    image = even_image(1).read_bytes()
    with start(classify_key="classify-key", admin_key="admin-key-1") as gateway:
        for path in ("/models", "/monitor", "/model_performance", "/metrics", "/v1/models/grey"):
            assert gateway.get(path).status == 401, path
            assert gateway.get(path, authorization="Bearer classify-key").status == 200, path
        assert gateway.request("POST", PATH, image).status == 401
        assert gateway.request("POST", PATH, image, {"authorization": "Bearer wrong"}).status == 401
        assert gateway.request("POST", PATH, image, {"authorization": "Bearer classify-key"}).status == 200
        switch = {"model_id": "grey/1"}
        assert gateway.post_json("/switch_model", switch).status == 401
        assert gateway.post_json("/switch_model", switch, authorization="Bearer classify-key").status == 403
        assert gateway.post_json("/switch_model", switch, authorization="Bearer admin-key-1").status == 200
        assert (gateway.get("/healthz").status, gateway.get("/readyz").status) == (200, 200)
        # The key is checked before the body is looked at.
        assert gateway.request("POST", "/switch_model", b"{", {"content-type": "application/json"}).status == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8003", 200),
        ("[::1]:8003", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.io", 400),
    ],
)
def test_without_a_key_only_names_of_the_loopback_are_answered(gateway: Gateway, host: str, status: int) -> None:
    assert gateway.get("/models", host=host).status == status


def test_no_other_site_may_read_a_reply(gateway: Gateway) -> None:
    assert not [name for name in gateway.get("/models", origin="http://evil.example").headers if "allow-origin" in name]
    answer = gateway.request("OPTIONS", "/classify", headers={"origin": "http://evil.example"})
    assert answer.status == 405


def test_a_path_that_is_not_there_is_a_problem(gateway: Gateway) -> None:
    for method, path, status in (("GET", "/none", 404), ("GET", "/classify", 405), ("DELETE", "/models", 405)):
        answer = gateway.request(method, path)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")


def test_each_request_is_a_line_of_the_access_log_with_its_trace(
    gateway: Gateway, even_image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with caplog.at_level(logging.INFO, "tamiz_gateway.access"):
        answer = gateway.request(
            "POST", PATH, even_image(1).read_bytes(), {"traceparent": parent, "x-request-id": "order-7"}
        )
        failed = gateway.request("POST", PATH, b"no image", {"x-request-id": "line\x01feed"})
        # A request is logged after it was answered.
        until(lambda: len(access_lines(caplog)) == 2)
    assert answer.headers["x-request-id"] == "order-7"
    first, second = access_lines(caplog)
    assert (first["request_id"], first["trace_id"], first["status"], first["images"]) == (
        "order-7",
        parent[3:35],
        200,
        1,
    )
    assert (first["method"], first["path"], first["client"]) == ("POST", PATH, "127.0.0.1")
    assert first["seconds"] > 0
    assert second["request_id"] == failed.headers["x-request-id"] != "line\x01feed"
    assert second["error"].startswith("InvalidImageError: ")


def access_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "tamiz_gateway.access"]
