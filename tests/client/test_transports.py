"""The same calls over HTTP, TLS, mutual TLS and shared memory, and with headers."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import callers
import pytest
from conftest import Served
from fleet import stalled
from graphs import even, make_spec
from tls_proxy import Authority, TlsProxy

import tamiz
from tamiz import AsyncClient, Client, Tls, errors
from tamiz.transports import open_transport, shared_memory
from tamiz.transports.requests import (
    R,
    Request,
    SystemSharedMemoryRegister,
    SystemSharedMemoryStatus,
    SystemSharedMemoryUnregister,
)
from tamiz.transports.status import RegionNotRegisteredError, RegionRegisteredError
from tamiz_server.config import ServingSettings
from tamiz_server.promotion import promote

EXPECTED = [index % 10 for index in range(100)]


def http(served: Served) -> str:
    return f"http://127.0.0.1:{served.triton.ports.http}"


def test_http_gives_the_same_answers_as_grpc(served: Served) -> None:
    with Client(http(served), model="grey") as client, served.client("grey") as other:
        assert client.spec == other.spec
        assert client.classify(even(3), top_k=10) == other.classify(even(3), top_k=10)
        assert [outcome.index for outcome in client.classify_many(map(even, range(100)), batch_size=8)] == EXPECTED


async def test_the_async_client_works_over_http(served: Served) -> None:
    async with AsyncClient(http(served), model="grey") as client:
        assert [outcome.index async for outcome in client.classify_many(map(even, range(100)))] == EXPECTED


def test_a_promoted_version_is_used_over_http(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec([f"old {i}" for i in range(10)]))
    with Client(http(served), model=name) as client:
        assert client.classify(even(9)).label == "old 9"
        served.publish(name, make_spec([f"new {i}" for i in range(10)], 32, 32, "RGB"))
        promote(served.repository, name, 2, control=served.control)
        assert client.classify(even(9)).label == "new 9"
        assert client.stats.version_changed == 1


def test_errors_over_http_are_the_same(served: Served) -> None:
    with pytest.raises(errors.ModelNotFoundError, match="nothing"), Client(http(served), model="nothing") as client:
        client.classify(even(1))
    with pytest.raises(errors.UnavailableError), Client("http://127.0.0.1:9", model="grey") as client:
        client.classify(even(1))
    with Client(http(served), model="grey", timeout_s=1) as client:
        client.refresh()
        with stalled(served.triton):
            began = time.monotonic()
            with pytest.raises(errors.DeadlineError):
                client.classify(even(1))
            assert time.monotonic() - began < 1.9


def test_a_full_queue_over_http_is_an_overloaded_error(served: Served) -> None:
    from concurrent.futures import ThreadPoolExecutor

    name = served.new_name()
    settings = ServingSettings(max_batch_size=1, max_queue_size=1)
    served.publish(name, make_spec(["a", "b"]), busy_loops=60, settings=settings)
    with Client(http(served), model=name, timeout_s=30) as client, ThreadPoolExecutor(30) as pool:
        client.refresh()
        calls = [pool.submit(client.classify, even(0)) for _ in range(60)]
        failures = {type(call.exception()) for call in calls}
    assert failures <= {type(None), errors.OverloadedError}
    assert errors.OverloadedError in failures
    assert client.stats.overloaded > 0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["grpcs", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def port(scheme: str, served: Served) -> int:
    return served.triton.ports.grpc if scheme == "grpcs" else served.triton.ports.http


def test_an_encrypted_connection_needs_the_authority_that_signed_the_certificate(
    scheme: str, port: int, authority: Authority
) -> None:
    with TlsProxy(port, authority) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        with Client(url, model="grey", tls=Tls(ca=authority.path)) as client:
            assert [outcome.index for outcome in client.classify_many(map(even, range(100)))] == EXPECTED
        began = time.monotonic()
        with pytest.raises(errors.AccessError, match="(?i)certificate"), Client(url, model="grey") as client:
            client.classify(even(1))
        assert time.monotonic() - began < 6


def test_a_slow_handshake_does_not_cause_a_retry(scheme: str, port: int, authority: Authority) -> None:
    """Such as a connection across an ocean, or to a machine under load."""
    with (
        TlsProxy(port, authority, pause=1.5) as proxy,
        Client(f"{scheme}://127.0.0.1:{proxy.port}", model="grey", tls=Tls(ca=authority.path)) as client,
    ):
        assert client.classify(even(6)).index == 6
        assert client.stats.retries == 0


def test_a_client_certificate_is_sent_to_a_server_that_requires_one(
    scheme: str, port: int, authority: Authority
) -> None:
    with TlsProxy(port, authority, mutual=True) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        certificate, key = authority.sign("client")
        with Client(url, model="grey", tls=Tls(authority.path, certificate, key)) as client:
            assert client.classify(even(4)).index == 4
        with pytest.raises(errors.ServerError), Client(url, model="grey", tls=Tls(authority.path)) as client:
            client.classify(even(4))


def test_a_certificate_file_that_cannot_be_read_is_a_usage_error(scheme: str) -> None:
    for paths in ({"ca": "none.pem"}, {"certificate": "none.pem", "key": "none.pem"}):
        with pytest.raises(errors.UsageError, match=r"tls.\w+: none.pem: No such file"):
            Client(f"{scheme}://127.0.0.1:9", model="grey", tls=Tls(**paths))


def test_a_file_that_is_not_a_certificate_is_a_usage_error(
    scheme: str, authority: Authority, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.pem").write_text("hello")
    certificate, key = authority.sign("client")
    _, another = authority.sign("another")
    for tls in (Tls(tmp_path / "text.pem"), Tls(None, key, certificate), Tls(None, certificate, another)):
        with pytest.raises(errors.UsageError, match="tls: .*; give PEM files"):
            Client(f"{scheme}://127.0.0.1:9", model="grey", tls=tls)
    assert not capfd.readouterr().err


def test_a_certificate_of_another_host_is_an_access_error(scheme: str, port: int, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "127.0.0.9")
    with (
        pytest.raises(errors.AccessError, match="no encrypted connection to"),
        TlsProxy(port, authority) as proxy,
        Client(f"{scheme}://127.0.0.1:{proxy.port}", model="grey", tls=Tls(authority.path)) as client,
    ):
        client.classify(even(1))


def test_headers_are_sent_with_every_request(served: Served) -> None:
    """The server checks the key of its restricted protocols, which is one of the headers."""
    count = 0

    def headers() -> dict[str, str]:
        nonlocal count
        count += 1
        return {"Triton-Grpc-Protocol-Triton-Key": served.triton.key, "x-call": str(count)}

    with Client(served.triton.url, model="grey", headers=headers, shared_memory=True) as client:
        assert client.classify(even(2)).index == 2
        assert client.classify(even(2)).index == 2
    assert count >= 4


@pytest.mark.parametrize(
    "headers", [{"X Key": "1"}, {"x-key": "ñ"}, {"x-key": "1\n2"}, {"": "1"}, {"x-key": 1}, {1: "x"}, [("x-key", "1")]]
)
@pytest.mark.parametrize("url", ["grpc://127.0.0.1:9", "http://127.0.0.1:9"])
def test_invalid_headers_are_a_usage_error(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(errors.UsageError, match="headers: ") as caught:
        Client(url, model="grey", headers=headers)
    assert "ñ" not in str(caught.value), "a value may be secret"


def test_an_http_server_that_is_not_triton_is_an_inference_error() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please log in</html>")

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with (
                pytest.raises(errors.InferenceError, match="the answer is not Triton's"),
                Client(f"http://127.0.0.1:{server.server_port}", model="grey") as client,
            ):
                client.classify(even(1))
        finally:
            server.shutdown()
            thread.join()


def send_directly(served: Served, request: Request[R], url: str | None = None) -> R:
    """Send a server a request about shared memory, without a client."""
    transport = open_transport(url or served.triton.url, key=served.triton.key)
    try:
        return transport.call(request, 5)
    finally:
        transport.close()


def regions() -> set[str]:
    return {path.name for path in shared_memory.FOLDER.glob(f"{shared_memory.PREFIX}*")}


@pytest.fixture(params=["grpc", "http"])
def memory_client(request: pytest.FixtureRequest, served: Served) -> Iterator[Client]:
    url = served.triton.url if request.param == "grpc" else http(served)
    with Client(url, model="grey", key=served.triton.key, shared_memory=True) as client:
        yield client


def test_images_through_shared_memory_get_the_same_answers(memory_client: Client) -> None:
    assert memory_client.classify(even(3)).index == 3
    outcomes = memory_client.classify_many(map(even, range(1000)), batch_size=8, in_flight=4)
    assert [outcome.index for outcome in outcomes] == [index % 10 for index in range(1000)]
    assert 0 < len(regions()) <= 4
    memory_client.close()
    assert not regions()


def test_a_server_without_the_key_refuses_shared_memory(served: Served) -> None:
    with (
        pytest.raises(errors.AccessError, match="key"),
        Client(served.triton.url, model="grey", shared_memory=True) as client,
    ):
        client.classify(even(1))
    assert not regions()


def test_shared_memory_that_a_server_has_forgotten_is_registered_again(served: Served, memory_client: Client) -> None:
    memory_client.classify(even(1))
    send_directly(served, SystemSharedMemoryUnregister(""))
    assert memory_client.classify(even(2)).index == 2
    assert memory_client.stats.unavailable == 1


def test_a_region_registered_twice_and_one_that_cannot_be_opened_are_different_errors(
    served: Served, memory_client: Client
) -> None:
    memory_client.classify(even(1))
    (name,) = regions()
    for url in (served.triton.url, http(served)):
        with pytest.raises(RegionRegisteredError):
            send_directly(served, SystemSharedMemoryRegister(name, 784), url)
        with pytest.raises(RegionNotRegisteredError):
            send_directly(served, SystemSharedMemoryRegister(f"{shared_memory.PREFIX}absent", 784), url)


def test_closing_a_client_does_not_wait_for_a_server_that_hangs(served: Served) -> None:
    client = Client(served.triton.url, model="grey", key=served.triton.key, shared_memory=True)
    assert len(list(client.classify_many(map(even, range(100)), batch_size=1, in_flight=8))) == 100
    assert len(regions()) > 2
    with stalled(served.triton):
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 2.9
    assert not regions()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_shared_memory_of_a_worker_process_is_removed_when_it_ends(method: str, served: Served) -> None:
    with Client(served.triton.url, model="grey", key=served.triton.key, shared_memory=True) as client:
        client.classify(even(1))
        before = regions()
        context = multiprocessing.get_context(method)
        callers.client = client
        target, args = (
            (callers.classify, ())
            if method == "fork"
            else (callers.classify_through_shared_memory, _url_and_key(served))
        )
        process = context.Process(target=target, args=args)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert regions() == before
        assert client.classify(even(2)).index == 2


def _url_and_key(served: Served) -> tuple[str, str]:
    return served.triton.url, served.triton.key


_SCRIPT = """
import sys, numpy as np, tamiz
client = tamiz.Client(sys.argv[1], model="grey", key=sys.argv[2], shared_memory=True)
print(client.classify(np.zeros((28, 28), np.uint8)).index, flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "left"),
    [
        pytest.param("", False, id="ends without closing"),
        pytest.param("raise SystemExit(3)", False, id="exits"),
        pytest.param("1 / 0", False, id="fails"),
        pytest.param("import os; os.kill(os.getpid(), 9)", True, id="is killed"),
    ],
)
def test_shared_memory_is_removed_at_process_exit_or_by_the_next_client(then: str, left: bool, served: Served) -> None:
    before = regions()
    code = _SCRIPT.replace("{then}", then)
    done = subprocess.run(
        [sys.executable, "-c", code, served.triton.url, served.triton.key], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "0\n", done.stderr
    assert bool(regions() - before) is left
    with Client(served.triton.url, model="grey", key=served.triton.key, shared_memory=True) as client:
        assert client.classify(even(1)).index == 1
        assert send_directly(served, SystemSharedMemoryStatus()) == regions()
        assert len(regions()) == 1
    assert not regions()


def test_a_missing_extra_is_an_error_that_explains_how_to_install_it() -> None:
    code = "import sys; sys.modules['aiohttp'] = None; import tamiz; tamiz.Client('http://127.0.0.1:9', model='x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "tamiz[http]"' in done.stderr.splitlines()[-1]


def test_tls_is_exported() -> None:
    assert tamiz.Tls is Tls
