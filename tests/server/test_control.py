from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Served
from tls_proxy import Authority, TlsProxy

from tamiz import Tls, UsageError, errors
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


@pytest.mark.parametrize("url", ["grpc://a:8001,b:8001", "dns:///a:8001", "http://a:8000,b:8000"])
def test_a_url_that_is_not_one_server_is_rejected(url: str) -> None:
    with pytest.raises(UsageError, match="a change goes to one server at a time"):
        Control(url)


def test_a_server_is_controlled_over_http(served: Served) -> None:
    url = f"http://127.0.0.1:{served.triton.ports.http}"
    with Control(url, served.triton.key) as control:
        control.load("grey")
        assert ("grey", "READY") in {(state.model, state.state) for state in control.models()}
        assert control.config("grey").name == "grey"
    with Control(url, "wrong") as control, pytest.raises(errors.AccessError, match="the key is missing or wrong"):
        control.load("grey")


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_server_is_controlled_over_an_encrypted_connection_with_a_client_certificate(
    scheme: str, served: Served, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("operator")
    port = served.triton.ports.grpc if scheme == "grpcs" else served.triton.ports.http
    with (
        TlsProxy(port, authority, mutual=True) as proxy,
        Control(
            f"{scheme}://127.0.0.1:{proxy.port}",
            served.triton.key,
            tls=Tls(authority.path, certificate, key),
            headers={"x-operator": "ana"},
        ) as control,
    ):
        control.load("grey")
        assert ("grey", "READY") in {(state.model, state.state) for state in control.models()}


def test_certificates_without_a_url_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--url is missing"), open_control(None, tls=Tls(ca=tmp_path)):
        pytest.fail("entered")


def test_without_a_url_there_is_no_control() -> None:
    with open_control(None, "key") as control:
        assert control is None


def test_a_control_is_opened_only_if_the_server_accepts_the_key(served: Served) -> None:
    with open_control(served.triton.url, served.triton.key) as control:
        assert control is not None
        assert control.url == served.triton.url
    with pytest.raises(errors.AccessError), open_control(served.triton.url, "wrong"):
        pytest.fail("entered")
