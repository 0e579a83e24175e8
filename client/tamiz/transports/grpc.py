"""The gRPC transport: Triton's gRPC service through the stubs of tritonclient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ..errors import (
    AccessError,
    DeadlineError,
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from .forks import fork_guard
from .grpc_messages import InferMessage, decode, encode
from .headers import Headers, read_headers
from .requests import Request
from .status import make_error
from .tls import Tls

R = TypeVar("R")

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""The largest accepted reply: probabilities of 16,384 images with 1,000 labels."""

KEEPALIVE_S = 60
"""A connection with requests in flight is probed after this many seconds of silence."""

CONNECT_TIMEOUT_S = 5
"""Time for one attempt to connect: enough for TLS across an ocean with a lost packet, or to a machine under load."""

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class GrpcTransport:
    """A gRPC connection; see `tamiz.transports.base.Transport`.

    Args:
        url: URL of the server, for messages.
        target: ``host:port`` or ``dns:///name:port``.
        tls: certificates; None for an unencrypted connection.
        headers: sent with every request.
    """

    def __init__(self, url: str, target: str, tls: Tls | None = None, headers: Headers = None) -> None:
        self.url = url
        self._channel = open_channel(target, tls=tls)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # The stub's own method would need the pixels as a field of the message.
        self._stub.ModelInfer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=InferMessage.serialize,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        self._headers = headers

    def call(self, request: Request[R], timeout_s: float) -> R:
        """Send a request and wait for the reply; see `Transport`."""
        message, metadata = encode(request), self._metadata()
        try:
            with fork_guard:
                reply = getattr(self._stub, request.method)(message, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as exc:
            raise _error(exc, request, self.url) from exc
        return decode(request, reply)  # type: ignore[no-any-return]

    def begin(self, request: Request[R], timeout_s: float) -> _GrpcFuture[R]:
        """Send a request; see `Transport`."""
        message, metadata = encode(request), self._metadata()
        fork_guard.begin()
        try:
            future = getattr(self._stub, request.method).future(message, timeout=timeout_s, metadata=metadata)
        except BaseException:
            fork_guard.end()
            raise
        future.add_done_callback(fork_guard.end)
        return _GrpcFuture(future, request, self.url)

    def close(self) -> None:
        """Close the connection; see `Transport`."""
        self._channel.close()

    def _metadata(self) -> list[tuple[str, str]] | None:
        # gRPC accepts only lower-case names.
        return [(name.lower(), value) for name, value in read_headers(self._headers).items()] or None


class _GrpcFuture(Generic[R]):
    """A request in flight; see `tamiz.transports.base.CallFuture`."""

    def __init__(self, future: grpc.Future, request: Request[R], url: str) -> None:
        self._future = future
        self._request = request
        self._url = url

    def add_done_callback(self, function: Callable[[Any], None], /) -> None:
        self._future.add_done_callback(function)

    def cancel(self) -> bool:
        return bool(self._future.cancel())

    def result(self) -> R:
        try:
            reply = self._future.result()
        except grpc.RpcError as exc:
            raise _error(exc, self._request, self._url) from exc
        return decode(self._request, reply)  # type: ignore[no-any-return]


_KINDS: dict[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAUTHENTICATED: AccessError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: InvalidRequestError,
}


def _error(exc: grpc.RpcError, request: Request[Any], url: str) -> ServerError:
    code = exc.code()
    kind = _KINDS.get(code, InferenceError)
    return make_error(kind, exc.details() or "", status=code.name, request=request, url=url)


def open_channel(target: str, options: Iterable[tuple[str, Any]] = (), *, tls: Tls | None = None) -> grpc.Channel:
    """A gRPC channel with the options that every channel of Tamiz has.

    Args:
        target: ``host:port`` or ``dns:///name:port``.
        options: further channel options; they override those of Tamiz.
        tls: certificates; None for an unencrypted connection.
    """
    settings: list[tuple[str, Any]] = [
        # Batches of large images exceed gRPC's default of 4 MiB; Triton itself accepts up to 2 GiB - 1.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A server that comes back is found within a second; gRPC's own backoff grows to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Despite its name, this is the timeout of one connection attempt.
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_S * 1000),
        # Otherwise the channels of one process share a connection, and its limit of requests in flight.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if target.startswith("dns:"):
        settings.append(("grpc.lb_policy_name", "round_robin"))
    if target.rpartition(":")[0] in _LOOPBACK:
        # gRPC would use the proxy of http_proxy even for this machine's loopback.
        settings.append(("grpc.enable_http_proxy", 0))
    settings += options
    if tls is None:
        return grpc.insecure_channel(target, settings)
    credentials = grpc.ssl_channel_credentials(tls.read("ca"), tls.read("key"), tls.read("certificate"))
    return grpc.secure_channel(target, credentials, settings)
