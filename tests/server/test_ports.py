from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tamiz import TritonError
from tamiz_server.ports import LOOPBACK, Ports, choose_ports


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_free_port_is_chosen_for_each_0() -> None:
    ports = choose_ports(Ports(0, 0, 0))
    assert len(set(ports)) == 3
    assert all(0 < port < 65536 for port in ports)


def test_requested_ports_that_are_free_are_kept() -> None:
    free = choose_ports(Ports(0, 0, 0))
    assert choose_ports(free) == free


@pytest.mark.parametrize("which", ["grpc", "http", "metrics"])
def test_a_requested_port_that_is_in_use_is_an_error_with_its_name(which: str, port_in_use: int) -> None:
    with pytest.raises(TritonError, match=f"port {port_in_use} for {which}: Address already in use"):
        choose_ports(Ports(0, 0, 0)._replace(**{which: port_in_use}))


def test_a_port_out_of_range_is_an_error() -> None:
    with pytest.raises(TritonError, match="port 70000 for http: .*0-65535"):
        choose_ports(Ports(0, 70000, 0))
