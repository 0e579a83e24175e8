from __future__ import annotations

import pytest
from conftest import Served
from graphs import even, make_spec

from tamiz.transports import open_transport
from tamiz.transports.requests import VersionStatistics


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_what_a_server_has_counted_of_a_version_is_read(scheme: str, served: Served) -> None:
    model, ports = served.new_name(), served.triton.ports
    served.publish(model, make_spec(["a", "b"]))
    transport = open_transport(f"{scheme}://127.0.0.1:{ports.grpc if scheme == 'grpc' else ports.http}")
    try:
        # The server has warmed the model up.
        (before,) = transport.call(VersionStatistics(model), 10)
        with served.client(model) as client:
            for index in range(3):
                client.classify(even(index))
        (after,) = transport.call(VersionStatistics(model), 10)
    finally:
        transport.close()
    assert (after.version, after.answered - before.answered, after.failed) == (1, 3, 0)
