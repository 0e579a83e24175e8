"""URLs of servers: one server, several servers of the same models, or a DNS name with several addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..arguments import check_text, check_type
from ..errors import UsageError, shorten
from .tls import Tls

DEFAULT_URL = "grpc://localhost:8001"

_MAX_SHOWN = 200
"""The number of characters of a URL in messages."""

_DEFAULT_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443}
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^/:,@\s]+)(:(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Address:
    """The addresses of one or several servers of the same models.

    Attributes:
        scheme: ``grpc``, ``grpcs``, ``http`` or ``https``.
        targets: ``host:port`` of each server; or one ``dns:///name:port``, whose addresses gRPC uses in turn.
    """

    scheme: str
    targets: tuple[str, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        """The URL of each target."""
        return tuple(target if target.startswith("dns:") else f"{self.scheme}://{target}" for target in self.targets)

    @property
    def several(self) -> bool:
        """Whether more than one server may answer."""
        return len(self.targets) > 1 or self.targets[0].startswith("dns:")


def parse_url(url: str, tls: Tls | None = None) -> Address:
    """Read a URL such as ``grpc://a:8001,b:8001``.

    Args:
        url: ``grpc``, ``grpcs``, ``http`` or ``https``, followed by hosts joined by commas. The default ports are 8001
            for gRPC, 8000 for HTTP and 443 for HTTPS. Or ``dns:///name:port``.
        tls: certificates. They make ``dns:///`` encrypted; ``grpc`` and ``http`` cannot use them.

    Raises:
        UsageError: the URL has another form, or ``tls`` is something else.
    """
    check_text("url", url, "a string such as grpc://host:port")
    check_type("tls", tls, (Tls, type(None)), "a tamiz.Tls(ca=…), or None")
    shown = repr(shorten(url, _MAX_SHOWN))
    if url.startswith("dns:///"):
        (target,) = _parse_hosts(url, url.removeprefix("dns:///"), 8001)
        return Address("grpcs" if tls else "grpc", (f"dns:///{target}",))
    scheme, separator, hosts = url.partition("://")
    if not separator or scheme not in _DEFAULT_PORTS:
        form = "dns:///name:port" if scheme == "dns" else "grpc://host:port, or http://host:port for Triton's HTTP port"
        raise UsageError(f"url: {shown}; write {form}")
    if tls and not scheme.endswith("s"):
        raise UsageError(f"url: {shown} is not encrypted, but certificates are given; write {scheme}s://")
    return Address(scheme, _parse_hosts(url, hosts.removesuffix("/"), _DEFAULT_PORTS[scheme]))


def _parse_hosts(url: str, hosts: str, default_port: int) -> tuple[str, ...]:
    shown = repr(shorten(url, _MAX_SHOWN))
    targets = []
    for host in hosts.split(","):
        found = _HOST.fullmatch(host)
        port = int(found["port"] or default_port) if found else 0
        if found is None and host.count(":") > 1 and "[" not in host:
            raise UsageError(f"url: {shown}: write an IPv6 address in brackets, such as grpc://[::1]:8001")
        if found is None or not 0 < port < 65536:
            raise UsageError(
                f"url: {shorten(host, _MAX_SHOWN)!r} in {shown} is not host:port; write grpc://host:port, or "
                "grpc://host:port,host:port"
            )
        targets.append(f"{found['host']}:{port}")
    if len(set(targets)) < len(targets) or (url.startswith("dns:") and len(targets) > 1):
        raise UsageError(f"url: {shown}; name each server once, and one name after dns:///")
    return tuple(targets)
