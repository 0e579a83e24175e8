from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn
from fleet import stalled

pytestmark = pytest.mark.integration


@pytest.fixture
def service(
    example: Callable[[str], ModuleType], served: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, dict[str, Any]]]]:
    """The service on a free port of the loopback; posts a body and returns the status and the JSON."""
    monkeypatch.setenv("TRITON_URL", served.triton.url)
    monkeypatch.setenv("MODEL", "grey")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(example("fastapi_service").app, http="h11", ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def post(body: bytes, query: str = "") -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/classify{query}", data=body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    end = time.monotonic() + 20
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    yield post
    server.should_exit = True
    thread.join(20)
    listener.close()


def test_the_service_returns_the_label_of_an_image(
    service: Callable[..., Any], even_image: Callable[..., Path]
) -> None:
    status, reply = service(even_image(7).read_bytes(), "?top_k=2")
    assert (status, reply["label"], reply["version"]) == (200, "grey 7", 1)
    assert len(reply["top"]) == 2


def test_the_service_maps_each_error_to_a_status(
    service: Callable[..., Any], even_image: Callable[..., Path], served: Any
) -> None:
    assert service(b"no image") == (422, {"error": "InvalidImageError", "message": service(b"no image")[1]["message"]})
    assert service(even_image(1).read_bytes(), "?top_k=0")[0] == 400
    with stalled(served.triton):
        status, reply = service(even_image(1).read_bytes())
    assert (status, reply["error"]) == (504, "DeadlineError")
    assert service(even_image(1).read_bytes())[0] == 200
