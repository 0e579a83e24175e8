from __future__ import annotations

import pytest

from tamiz.errors import UsageError
from tamiz.transports import Address, Tls, parse_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("grpc://localhost:8001", Address("grpc", ("localhost:8001",))),
        ("grpc://host", Address("grpc", ("host:8001",))),
        ("grpc://host/", Address("grpc", ("host:8001",))),
        ("grpc://[::1]:9", Address("grpc", ("[::1]:9",))),
        ("grpc://a:1,b,c:3", Address("grpc", ("a:1", "b:8001", "c:3"))),
        ("grpcs://a:1", Address("grpcs", ("a:1",))),
        ("http://a", Address("http", ("a:8000",))),
        ("https://a,b:8443", Address("https", ("a:443", "b:8443"))),
        ("dns:///triton.svc:8001", Address("grpc", ("dns:///triton.svc:8001",))),
    ],
)
def test_a_url_names_one_server_or_several(url: str, address: Address) -> None:
    assert parse_url(url) == address
    assert address.several == (url.startswith("dns") or "," in url)
    assert len(address.urls) == len(address.targets)


def test_certificates_make_the_connection_to_a_dns_name_encrypted() -> None:
    assert parse_url("dns:///triton:8001", Tls()).scheme == "grpcs"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8001",
        "ftp://a:1",
        "grpc:/a:1",
        "grpc://",
        "grpc://a:99999",
        "grpc://a:0",
        "grpc://a:x",
        "grpc://a:1,",
        "grpc://a:1,a:1",
        "grpc://a:1,grpc://b:1",
        "dns://a:1",
        "grpc://a b",
        "grpc://user@a",
        "dns:///a:1,b:1",
        "dns:///",
    ],
)
def test_a_malformed_url_is_rejected(url: str) -> None:
    with pytest.raises(UsageError, match="^url: "):
        parse_url(url)


@pytest.mark.parametrize("url", ["grpc://::1:8001", "grpc://::1", "http://fe80::1:8000", "dns:///::1:8001"])
def test_an_ipv6_address_without_brackets_is_rejected_with_the_right_form(url: str) -> None:
    with pytest.raises(UsageError, match=r"write an IPv6 address in brackets, such as grpc://\[::1\]:8001"):
        parse_url(url)


def test_certificates_for_an_unencrypted_connection_are_rejected() -> None:
    with pytest.raises(UsageError, match="write grpcs://"):
        parse_url("grpc://a:1", Tls())
