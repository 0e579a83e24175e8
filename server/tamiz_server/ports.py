"""Ports of the embedded Triton on this machine's loopback interface."""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

from tamiz.errors import TritonError, os_reason

LOOPBACK = "127.0.0.1"


class Ports(NamedTuple):
    """Ports that a server listens on.

    Attributes:
        grpc: port of the gRPC service.
        http: port of the HTTP service.
        metrics: port of the Prometheus metrics.
    """

    grpc: int
    http: int
    metrics: int


class PortInUseError(TritonError):
    """Another process took a port after it was chosen and before Triton opened it."""


def choose_ports(requested: Ports) -> Ports:
    """Check that the requested ports are free, and choose a free port for each 0.

    Raises:
        TritonError: a requested port is in use, out of range or not permitted.
    """
    with contextlib.ExitStack() as stack:
        chosen = []
        for name, port in requested._asdict().items():
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except (OSError, OverflowError) as exc:
                raise TritonError(
                    f"port {port} for {name}: {os_reason(exc)}; choose another port, or 0 for a free one"
                ) from exc
            chosen.append(listener.getsockname()[1])
        return Ports(*chosen)
