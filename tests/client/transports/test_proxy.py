from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest

from tamiz.errors import UnavailableError
from tamiz.transports import open_transport
from tamiz.transports.proxy import describe_proxy, is_loopback
from tamiz.transports.requests import ServerReady

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "NO_PROXY")


class RefusingProxy(HTTPServer):
    """An HTTP server that answers no method, and counts the requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                outer.requests.append(format % args)

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def http_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusingProxy]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with RefusingProxy() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def failure(url: str) -> str:
    transport = open_transport(url)
    try:
        with pytest.raises(UnavailableError) as caught:
            transport.call(ServerReady(), 5)
    finally:
        transport.close()
    return str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "[::1]", "LOCALHOST", "x.localhost"])
@pytest.mark.parametrize("prefix", ["", "dns:///"])
def test_every_name_of_the_loopback_is_recognised(prefix: str, host: str) -> None:
    assert is_loopback(f"{prefix}{host}:8001")


@pytest.mark.parametrize("target", ["localhost.example.com:1", "10.0.0.1:1", "dns:///triton.svc:8001", "[fe80::1]:1"])
def test_another_machine_is_not_the_loopback(target: str) -> None:
    assert not is_loopback(target)


@pytest.mark.parametrize("url", ["dns:///localhost:1", "grpc://127.0.0.2:1", "grpc://localhost:1", "grpc://[::1]:1"])
def test_no_name_of_the_loopback_goes_through_a_proxy(
    url: str, http_server: RefusingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{http_server.server_port}")
    assert "proxy" not in failure(url)
    assert not http_server.requests


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_an_error_names_the_proxy_without_its_password(
    variable: str, http_server: RefusingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://user:secret@127.0.0.1:{http_server.server_port}")
    message = failure("grpc://192.0.2.1:8001")
    assert f"{variable} sends this connection to the proxy 127.0.0.1:{http_server.server_port}: to connect" in message
    assert "add 192.0.2.1 to no_proxy" in message
    assert "secret" not in message
    assert http_server.requests


@pytest.mark.parametrize(
    ("hosts", "described"),
    [("a.example,10.0.0.1", True), ("a.example,triton.example", False), ("example", False), ("*", False)],
)
def test_a_host_that_bypasses_the_proxy_gets_no_hint(
    hosts: str, described: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert not describe_proxy("triton.example:8001")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", hosts)
    assert bool(describe_proxy("triton.example:8001")) == described


def test_grpc_on_an_http_port_asks_whether_it_is_the_grpc_port(http_server: RefusingProxy) -> None:
    assert "is this the gRPC port?" in failure(f"grpc://127.0.0.1:{http_server.server_port}")


def test_grpc_on_a_port_that_hangs_up_asks_whether_it_is_the_grpc_port() -> None:
    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1024)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert "is this the gRPC port?" in failure(f"grpc://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


def test_http_on_a_grpc_port_asks_whether_it_is_the_http_port() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert "is this the HTTP port?" in failure(f"http://127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
