"""Readiness of an embedded server: wait until it listens on its ports and serves every live version."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tamiz.errors import TritonError
from tamiz.transports import open_channel

from .log import add_remedy, failure_reason, last_line, load_failure, stub_failure
from .ports import LOOPBACK, PortInUseError, Ports
from .process import ServerProcess, describe_exit

_POLL_INTERVAL_S = 0.02
_MESSAGE_COMPLETE_S = 0.1
_RECONNECT_FAST = [(f"grpc.{which}_reconnect_backoff_ms", 50) for which in ("initial", "min", "max")]
_PORT_IN_USE = re.compile(r"in use|failed to bind", re.IGNORECASE)


def wait_until_ready(
    name: str,
    ports: Ports,
    process: ServerProcess,
    log: Path,
    live: Mapping[str, Sequence[int]],
    *,
    timeout_s: float,
) -> None:
    """Wait until a server is ready.

    Args:
        name: the server's name (Triton's option ``id``), which distinguishes it from another Triton that has its ports.
        ports: ports of the server.
        process: process of the server.
        log: the server's log.
        live: the live versions of each model, which must be loaded.
        timeout_s: seconds until the server must listen on all its ports.

    Raises:
        PortInUseError: the server ended because another process had taken one of its ports.
        TritonError: the server ended, was not ready in time, or did not load a live version.
    """
    deadline = time.monotonic() + timeout_s
    with open_channel(f"{LOOPBACK}:{ports.grpc}", _RECONNECT_FAST) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while not _listens(stub, name, ports):
            _require_progress(process, log)
            if time.monotonic() > deadline:
                raise TritonError(f"Triton was not ready within {timeout_s:g} s; its last log line: {last_line(log)}")
            time.sleep(_POLL_INTERVAL_S)
        # Triton opens its ports when all models are loaded; this makes sure of each live version.
        for model, versions in live.items():
            for version in versions:
                _require_loaded(stub, model, version, log)


def _listens(stub: service_pb2_grpc.GRPCInferenceServiceStub, name: str, ports: Ports) -> bool:
    return (
        _server_name(stub) == name
        and name in _http_get(ports.http, "/v2")
        and "# HELP nv_" in _http_get(ports.metrics, "/metrics")
    )


def _server_name(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> str | None:
    """The name of the server that answers over gRPC; None if none answers."""
    try:
        return str(stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=1).name)
    except grpc.RpcError:
        return None


def _http_get(port: int, path: str) -> str:
    """The body of an answer over HTTP; empty if none comes."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _require_progress(process: ServerProcess, log: Path) -> None:
    if (status := process.wait(0)) is not None:
        reason = failure_reason(log)
        if status < 0:
            raise TritonError(f"Triton did not start: it {describe_exit(status)}; its last log line: {last_line(log)}")
        kind = PortInUseError if _PORT_IN_USE.search(reason) else TritonError
        raise kind(f"Triton did not start: {reason}")
    # The stub of the Python backend could not start, which Triton does not notice: it would wait for the stub forever.
    if stub_failure(log):
        # A message of several lines may not be complete yet.
        time.sleep(_MESSAGE_COMPLETE_S)
        raise TritonError(f"Triton did not start: {stub_failure(log)}")


def _require_loaded(stub: service_pb2_grpc.GRPCInferenceServiceStub, model: str, version: int, log: Path) -> None:
    request = service_pb2.ModelReadyRequest(name=model, version=str(version))
    try:
        ready = stub.ModelReady(request, timeout=10).ready
    except grpc.RpcError as exc:
        raise TritonError(f"Triton did not start: {load_failure(log, model) or failure_reason(log)}") from exc
    if not ready:
        reason = load_failure(log, model) or failure_reason(log)
        raise TritonError(f"Triton did not load model {model} version {version}: {add_remedy(reason)}")
