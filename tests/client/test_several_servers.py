from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import Served
from fleet import MODEL, Fleet, stalled, until
from graphs import even, make_spec, write_grey_graph

import tamiz
from tamiz import CallEvent, Client, RequestSent, errors
from tamiz_server.control import Control


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), 2, seconds=0.002) as fleet:
        yield fleet


def test_readiness_probes_continue_after_the_headers_function_failed(fleet: Fleet) -> None:
    down = threading.Event()

    def headers() -> dict[str, str]:
        if down.is_set():
            raise OSError("the token service is down")
        return {}

    with Client(fleet.url, model=MODEL, headers=headers) as client:
        assert client.classify(even(3)).index == 3
        down.set()
        until(lambda: not any(endpoint.ready for endpoint in client.endpoints))
        down.clear()
        until(lambda: all(endpoint.ready for endpoint in client.endpoints))
    until(lambda: not any(thread.name == "tamiz-probe" for thread in threading.enumerate()))


def test_refresh_makes_every_server_read_its_version_again(fleet: Fleet) -> None:
    with Client(fleet.url, model=MODEL) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(client.classify, map(even, range(40))))
        assert all(endpoint.version for endpoint in client.endpoints)
        client.refresh()
        assert sum(endpoint.version is None for endpoint in client.endpoints) == 1
        assert client.live_version == 1


def test_each_of_several_servers_gets_its_share_of_the_requests(fleet: Fleet) -> None:
    asked: Counter[str] = Counter()

    def count(event: CallEvent) -> None:
        if isinstance(event, RequestSent) and event.method == "ModelInfer":
            asked[event.url] += 1

    with Client(fleet.url, model=MODEL, on_event=count) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda index: client.classify(even(index)).index, range(200))) == [
            index % 10 for index in range(200)
        ]
    assert sorted(asked) == sorted(server.url for server in fleet.servers)
    assert min(asked.values()) > 60


def test_no_call_fails_when_a_server_is_killed_and_it_is_used_again_after_its_restart(fleet: Fleet) -> None:
    with Client(fleet.url, model=MODEL, timeout_s=10) as client:
        outcomes = client.classify_many((even(index) for index in range(2000)), in_flight=4, batch_size=4)
        got = [next(outcomes).index for _ in range(200)]
        fleet.kill(1)
        got += [next(outcomes).index for _ in range(800)]
        assert not client.endpoints[1].ready
        fleet.restart(1)
        until(lambda: client.endpoints[1].ready)
        got += [outcome.index for outcome in outcomes]
        assert got == [index % 10 for index in range(2000)]
        assert client.stats.images == 2000
        assert client.stats.unavailable > 0


def test_a_call_moves_to_another_server_before_its_deadline_when_one_hangs(fleet: Fleet) -> None:
    with Client(fleet.url, model=MODEL, timeout_s=2) as client:
        for _ in range(4):
            client.classify(even(1))
        with stalled(fleet.servers[1]):
            began = time.monotonic()
            assert [client.classify(even(index)).index for index in range(20)] == [index % 10 for index in range(20)]
            assert time.monotonic() - began < 3


def test_a_call_moves_to_another_server_soon_when_one_has_never_answered(fleet: Fleet) -> None:
    # The kernel accepts the connection, but no server ever answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"grpc://127.0.0.1:{silent.getsockname()[1]},{fleet.servers[0].url.removeprefix('grpc://')}"
        with Client(url, model=MODEL) as client:
            began = time.monotonic()
            assert [client.classify(even(index)).index for index in range(20)] == [index % 10 for index in range(20)]
            assert time.monotonic() - began < 4
            assert client.stats.unavailable > 0


def test_a_call_waits_for_a_server_that_restarts(fleet: Fleet) -> None:
    with Client(fleet.servers[1].url, model=MODEL, timeout_s=20) as client, ThreadPoolExecutor(1) as pool:
        client.classify(even(1))
        fleet.kill(1)
        call = pool.submit(client.classify, even(7))
        time.sleep(0.3)
        fleet.restart(1)
        assert call.result().index == 7
        assert client.stats.unavailable > 0


def test_servers_may_have_different_live_versions(served: Served, fleet: Fleet) -> None:
    """During a rollout, one server answers with the new version and another with the old one, each with its labels."""
    name = served.new_name()
    served.publish(name, make_spec([f"new {index}" for index in range(5)], 32, 20, "RGB"))
    old, spec = fleet.servers[0].repository, make_spec([f"old {index}" for index in range(10)])
    old.publish(name, write_grey_graph(old.path.parent / "old.onnx", spec), spec)
    with Control(fleet.servers[0].url, fleet.servers[0].key) as control:
        control.load(name)
    url = ",".join([fleet.servers[0].url, served.triton.url.removeprefix("grpc://")])
    with Client(url, model=name) as client:
        labels = {client.classify(np.full((40, 40), 255, np.uint8)).label for _ in range(40)}
    assert labels == {"old 9", "new 4"}


def test_an_unknown_model_on_several_servers_is_an_error_before_the_deadline(fleet: Fleet) -> None:
    began = time.monotonic()
    with pytest.raises(tamiz.ModelNotFoundError, match="nothing"), Client(fleet.url, model="nothing") as client:
        client.classify(even(1))
    assert time.monotonic() - began < 6


def test_no_server_at_any_address_is_an_error_before_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(errors.UnavailableError), Client("grpc://127.0.0.1:9,127.0.0.1:10", model="grey") as client:
        client.classify(even(1))
    assert time.monotonic() - began < 6


def test_a_dns_name_may_have_several_addresses(fleet: Fleet) -> None:
    port = fleet.servers[0].ports.grpc
    with Client(f"dns:///localhost:{port}", model=MODEL) as client:
        assert [outcome.index for outcome in client.classify_many(map(even, range(20)))] == [i % 10 for i in range(20)]


def test_the_thread_that_probes_readiness_ends_with_the_client(fleet: Fleet) -> None:
    with Client(fleet.url, model=MODEL) as client:
        client.classify(even(1))
        assert any(thread.name == "tamiz-probe" for thread in threading.enumerate())
    until(lambda: not any(thread.name == "tamiz-probe" for thread in threading.enumerate()))
