"""Requests whose callers stop waiting: what a server sees of that, and which connection the next request uses."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from conftest import Served
from dropping_proxy import DroppingProxy
from fleet import until
from graphs import even
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tamiz import AsyncClient, Client, errors
from tamiz.transports import Transport, open_transport
from tamiz.transports.grpc import cancels_requests
from tamiz.transports.requests import Metadata, ModelReady, ServerReady


class ScriptedServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Triton's gRPC service as far as the tests need it, of a version that no wheel has.

    Args:
        version: of Triton, which the server reports.

    Attributes:
        working: set when a request for a model's readiness has arrived.
        finish: lets the requests for a model's readiness end.
        cancelled: set when such a request was cancelled, or its deadline passed, before it ended.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self.working, self.finish, self.cancelled = threading.Event(), threading.Event(), threading.Event()

    def ServerReady(self, request: object, context: object) -> service_pb2.ServerReadyResponse:
        return service_pb2.ServerReadyResponse(ready=True)

    def ServerMetadata(self, request: object, context: object) -> service_pb2.ServerMetadataResponse:
        return service_pb2.ServerMetadataResponse(name="triton", version=self._version)

    def ModelReady(self, request: object, context: grpc.ServicerContext) -> service_pb2.ModelReadyResponse:
        context.add_callback(lambda: None if self.finish.is_set() else self.cancelled.set())
        self.working.set()
        self.finish.wait(20)
        return service_pb2.ModelReadyResponse(ready=True)


@contextmanager
def serving(version: str, port: int = 0) -> Iterator[tuple[ScriptedServer, int]]:
    with ThreadPoolExecutor(8) as pool:
        server, script = grpc.server(pool), ScriptedServer(version)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(script, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield script, port
        finally:
            script.finish.set()
            server.stop(0).wait()


@contextmanager
def connected(port: int) -> Iterator[Transport]:
    transport = open_transport(f"grpc://127.0.0.1:{port}")
    try:
        # The version is asked for after the first reply, without waiting.
        transport.call(ServerReady(), 10)
        time.sleep(0.2)
        yield transport
    finally:
        transport.close()


def wait_in_thread(transport: Transport, on_ended: Callable[[], None]) -> None:
    with pytest.raises(errors.DeadlineError):
        transport.call(ModelReady("m"), 0.3, on_ended)


def wait_for_future(transport: Transport, on_ended: Callable[[], None]) -> None:
    with pytest.raises(errors.DeadlineError):
        transport.begin(ModelReady("m"), 0.3, on_ended).wait(0.3)


def cancel(transport: Transport, on_ended: Callable[[], None]) -> None:
    reply = transport.begin(ModelReady("m"), 20, on_ended)
    time.sleep(0.2)
    reply.cancel()


def interrupt(transport: Transport, on_ended: Callable[[], None]) -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            transport.call(ModelReady("m"), 20, on_ended)
    finally:
        timer.join()


STOPS = [wait_in_thread, wait_for_future, cancel, interrupt]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("version", ["2.51.0", "2.52.0", "unknown"])
def test_a_request_to_a_server_that_cancelling_may_crash_ends_in_the_background(
    stop: Callable[..., None], version: str
) -> None:
    ended = threading.Event()
    with serving(version) as (server, port), connected(port) as transport:
        stop(transport, ended.set)
        assert server.working.wait(5)
        assert not server.cancelled.wait(0.5)
        assert not ended.is_set()
        server.finish.set()
        assert ended.wait(5)
    assert not server.cancelled.is_set()


@pytest.mark.parametrize("stop", STOPS)
def test_a_request_to_a_newer_server_is_cancelled(stop: Callable[..., None]) -> None:
    ended = threading.Event()
    with serving("2.53.0") as (server, port), connected(port) as transport:
        stop(transport, ended.set)
        assert server.cancelled.wait(5)
        assert ended.wait(5)


def test_closing_returns_at_once_and_leaves_requests_to_a_server_that_cancelling_may_crash() -> None:
    # Requests of other tests may still be ending.
    others = set(threading.enumerate())
    with serving("2.51.0") as (server, port), connected(port) as transport, ThreadPoolExecutor(1) as pool:
        call = pool.submit(transport.call, ModelReady("m"), 20)
        assert server.working.wait(5)
        began = time.monotonic()
        transport.close()
        with pytest.raises(errors.UnavailableError, match="was closed"):
            call.result(5)
        assert time.monotonic() - began < 1
        assert not server.cancelled.wait(0.5)
        server.finish.set()
    until(lambda: not [thread for thread in {*threading.enumerate()} - others if thread.name == "tamiz-call"])
    assert not server.cancelled.is_set()


def test_closing_cancels_the_requests_to_a_newer_server() -> None:
    with serving("2.53.0") as (server, port), connected(port) as transport, ThreadPoolExecutor(1) as pool:
        call = pool.submit(transport.call, ModelReady("m"), 20)
        assert server.working.wait(5)
        transport.close()
        with pytest.raises(errors.UnavailableError):
            call.result(5)
        assert server.cancelled.wait(5)


def test_the_version_is_read_again_after_the_server_was_lost() -> None:
    with serving("2.53.0") as (_, port), connected(port) as transport:
        pass
    transport = open_transport(f"grpc://127.0.0.1:{port}")
    try:
        with serving("2.53.0", port):
            transport.call(ServerReady(), 10)
        with pytest.raises(errors.UnavailableError):
            transport.call(ServerReady(), 10)
        with serving("2.51.0", port) as (server, _):
            until(lambda: _answers(transport))
            wait_in_thread(transport, lambda: None)
            assert server.working.wait(5)
            assert not server.cancelled.wait(0.5)
    finally:
        transport.close()


def _answers(transport: Transport) -> bool:
    try:
        return transport.call(ServerReady(), 1)
    except errors.UnavailableError:
        return False


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("triton", "2.53.0", True),
        ("triton", "2.60.1", True),
        ("triton", "3.0.0", True),
        ("tamiz-triton-1a2b", "2.53.0", True),
        ("triton", "2.52.0", False),
        ("triton", "2.9.0", False),
        ("triton", "", False),
        ("OpenVINO Model Server", "2026.1", False),
    ],
)
def test_only_a_triton_since_2_53_is_known_to_survive_cancelled_requests(
    name: str, version: str, expected: bool
) -> None:
    assert cancels_requests(Metadata(name, version)) is expected


@pytest.fixture(params=["grpc", "http"])
def proxy(request: pytest.FixtureRequest, served: Served) -> Iterator[tuple[DroppingProxy, str]]:
    ports = served.triton.ports
    with DroppingProxy(ports.grpc if request.param == "grpc" else ports.http) as proxy:
        yield proxy, f"{request.param}://127.0.0.1:{proxy.port}"


OLD_ENOUGH_S = 1.1
"""A connection is not replaced sooner."""


def test_one_call_fails_after_a_connection_was_dropped_silently(proxy: tuple[DroppingProxy, str]) -> None:
    dropping, url = proxy
    with Client(url, model="grey", timeout_s=1) as client:
        assert client.classify(even(1)).index == 1
        time.sleep(OLD_ENOUGH_S)
        dropping.drop()
        with pytest.raises(errors.DeadlineError):
            client.classify(even(2))
        assert [client.classify(even(index)).index for index in range(5)] == list(range(5))


async def test_one_call_of_an_async_client_fails_after_a_connection_was_dropped_silently(
    proxy: tuple[DroppingProxy, str],
) -> None:
    dropping, url = proxy
    async with AsyncClient(url, model="grey", timeout_s=1) as client:
        assert (await client.classify(even(1))).index == 1
        time.sleep(OLD_ENOUGH_S)
        dropping.drop()
        with pytest.raises(errors.DeadlineError):
            await client.classify(even(2))
        assert [(await client.classify(even(index))).index for index in range(5)] == list(range(5))


def test_a_pool_of_connections_is_dropped_as_a_whole(proxy: tuple[DroppingProxy, str]) -> None:
    dropping, url = proxy
    with Client(url, model="grey", timeout_s=1) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(client.classify, map(even, range(100))))
        time.sleep(OLD_ENOUGH_S)
        dropping.drop()
        with pytest.raises(errors.DeadlineError):
            client.classify(even(2))
        assert [outcome.index for outcome in pool.map(client.classify, map(even, range(20)))] == [*range(10)] * 2


def test_timeouts_shorter_than_a_reply_do_not_open_one_connection_each(proxy: tuple[DroppingProxy, str]) -> None:
    dropping, url = proxy
    with Client(url, model="grey") as client:
        client.classify(even(1))
        before = dropping.accepted
        client.timeout_s = 0.0002
        began, failed = time.monotonic(), 0
        while time.monotonic() - began < 2.5:
            try:
                client.classify(even(1))
            except errors.DeadlineError:
                failed += 1
        assert failed > 100
        if url.startswith("grpc"):
            assert dropping.accepted - before <= 4
        client.timeout_s = 10
        assert client.classify(even(7)).index == 7
