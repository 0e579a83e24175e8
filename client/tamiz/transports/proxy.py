"""HTTP proxies of gRPC connections: where they are bypassed, and how errors name them.

gRPC follows the environment variables ``grpc_proxy``, ``https_proxy`` and ``http_proxy``, of which the first that is
set counts, except for the hosts of ``no_proxy``. Connections over HTTP use no proxy.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def is_loopback(target: str) -> bool:
    """Whether a URL or a target is on this machine's loopback interface (RFC 6761).

    Args:
        target: ``host:port``, ``dns:///host:port``, or another URL of one server.
    """
    host = _host(target)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def describe_proxy(target: str) -> str:
    """A hint for an error that names the proxy through which gRPC connects to a target; empty without one."""
    variable = next((name for name in _VARIABLES if os.environ.get(name)), None)
    host = _host(target)
    if variable is None or is_loopback(target) or proxy_bypass(host):
        return ""
    # Without the password that the URL of a proxy may hold.
    proxy = urlsplit(os.environ[variable]).netloc.rpartition("@")[2]
    return f"; {variable} sends this connection to the proxy {proxy}: to connect directly, add {host} to no_proxy"


def _host(target: str) -> str:
    return target.rpartition("/")[2].rpartition(":")[0].strip("[]").lower()
