"""Transports: how a request reaches a server, over gRPC or HTTP, encrypted or not, or through shared memory."""

from __future__ import annotations

from functools import partial

from .address import DEFAULT_URL, Address, parse_url
from .base import Transport
from .grpc import GrpcConnection, open_channel
from .headers import Headers, check_key, read_headers, with_key
from .reply import Reply
from .tls import Tls

__all__ = [
    "DEFAULT_URL",
    "Address",
    "Headers",
    "Reply",
    "Tls",
    "Transport",
    "check_key",
    "open_channel",
    "open_transport",
    "parse_url",
    "read_headers",
]


def open_transport(url: str, *, tls: Tls | None = None, headers: Headers = None, key: str | None = None) -> Transport:
    """A transport to one server; it connects with the first request.

    Args:
        url: one of `Address.urls`.
        tls: certificates.
        headers: sent with every request.
        key: key of Triton's restricted protocols.

    Raises:
        UsageError: the URL or a header is malformed, or a certificate cannot be read.
        MissingExtraError: the URL is an HTTP one, and the extra ``http`` is not installed.
    """
    address = parse_url(url, tls)
    (target,) = address.targets
    encrypted = address.scheme in ("grpcs", "https")
    if not callable(headers):
        read_headers(headers)
    if key is not None:
        check_key(key)
    if address.scheme.startswith("http"):
        from .http import HttpConnection

        if key is not None:
            headers = with_key(headers, "triton-key", key)
        context = (tls or Tls()).make_context() if encrypted else None
        return Transport(url, partial(HttpConnection, url, target, context, headers))
    if key is not None:
        headers = with_key(headers, "triton-grpc-protocol-triton-key", key)
    if tls is not None:
        tls.make_context()
    return Transport(url, partial(GrpcConnection, url, target, tls or Tls() if encrypted else None, headers))
