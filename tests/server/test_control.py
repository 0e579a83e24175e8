from __future__ import annotations

import pytest
from conftest import Served

from tamiz import UsageError, errors
from tamiz_server.control import Control, open_control


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_missing_or_wrong_key_is_rejected(key: str | None, served: Served) -> None:
    with (
        Control(served.triton.url, key) as control,
        pytest.raises(errors.AccessError, match="the key is missing or wrong"),
    ):
        control.load("grey")


def test_models_lists_the_states_of_the_servers_models(served: Served) -> None:
    states = {(state.model, state.version): state.state for state in served.control.models()}
    assert states["grey", 1] == "READY"


@pytest.mark.parametrize("url", ["grpc://a:8001,b:8001", "dns:///a:8001", "http://a:8000"])
def test_a_url_that_is_not_one_grpc_server_is_rejected(url: str) -> None:
    with pytest.raises(UsageError, match="give one server over gRPC"):
        Control(url)


def test_without_a_url_there_is_no_control() -> None:
    with open_control(None, "key") as control:
        assert control is None


def test_a_control_is_opened_only_if_the_server_accepts_the_key(served: Served) -> None:
    with open_control(served.triton.url, served.triton.key) as control:
        assert control is not None
        assert control.url == served.triton.url
    with pytest.raises(errors.AccessError), open_control(served.triton.url, "wrong"):
        pytest.fail("entered")
