from __future__ import annotations

from collections.abc import Iterator

import pytest

from tamiz.engine.connections import Connections
from tamiz.transports import open_transport, parse_url


@pytest.fixture
def connections() -> Iterator[Connections]:
    connections = Connections(parse_url("grpc://127.0.0.1:9,127.0.0.1:10"), "grey", open_transport)
    yield connections
    connections.close()


def test_a_ready_server_that_just_failed_is_picked_before_one_that_is_not_ready(connections: Connections) -> None:
    failed, down = connections.endpoints
    down.failure = "lost"
    assert {connections.pick(avoid=failed) for _ in range(4)} == {failed}
    down.failure = ""
    assert {connections.pick(avoid=failed) for _ in range(4)} == {down}
    failed.failure = down.failure = "lost"
    assert {connections.pick(avoid=failed) for _ in range(4)} == {down}


def test_equally_loaded_servers_take_turns(connections: Connections) -> None:
    assert [connections.pick().url for _ in range(4)] == [endpoint.url for endpoint in connections.endpoints] * 2


def test_the_server_with_the_fewest_requests_in_flight_is_picked(connections: Connections) -> None:
    first, second = connections.endpoints
    connections.count_in_flight(first, 1)
    assert {connections.pick() for _ in range(4)} == {second}
    connections.count_in_flight(second, 2)
    assert {connections.pick() for _ in range(4)} == {first}
    connections.count_in_flight(first, -1)
    connections.count_in_flight(second, -2)
    assert first.state.in_flight == second.state.in_flight == 0
