"""The gRPC transport: Triton's gRPC service through the stubs of tritonclient."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

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
from ..threads import Threads
from .connection import LEFTOVER_S, Connection
from .forks import fork_guard
from .grpc_messages import InferMessage, decode, encode
from .headers import Headers, read_headers
from .proxy import describe_proxy, is_loopback
from .reply import Reply
from .requests import Metadata, Request, ServerMetadata
from .status import how_to_start, make_error
from .tls import Tls

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""The largest accepted reply: probabilities of 16,384 images with 1,000 labels."""

KEEPALIVE_S = 60
"""A connection with requests in flight is probed after this many seconds of silence."""

CONNECT_TIMEOUT_S = 5
"""Time for one attempt to connect: enough for TLS across an ocean with a lost packet, or to a machine under load."""


class GrpcConnection(Connection):
    """A gRPC channel.

    The version of the server is asked for once, without waiting, after the first reply on an established connection.
    Until it is known, the server is treated as one that may crash when a request is cancelled.

    Args:
        url: URL of the server, for messages.
        target: ``host:port`` or ``dns:///name:port``.
        tls: certificates; None for an unencrypted connection.
        headers: sent with every request.
    """

    def __init__(self, url: str, target: str, tls: Tls | None = None, headers: Headers = None) -> None:
        super().__init__(url)
        self._target = target
        self._channel = open_channel(target, tls=tls)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # The stub's own method would need the pixels as a field of the message.
        self._stub.ModelInfer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=InferMessage.serialize,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        self._headers = headers
        self._threads = Threads()
        self._cancels = False
        # The servers behind one name may be of different versions.
        self._one_server = not target.startswith("dns:")
        self._asked_version = False

    @property
    def cancels(self) -> bool:
        """See `Connection.cancels`."""
        return self._cancels

    def send(self, reply: Reply[Any]) -> None:
        """See `Connection.send`."""
        request = reply.request
        method, message, metadata = getattr(self._stub, request.method), encode(request), self._metadata()
        fork_guard.begin()
        try:
            rpc = method.future(message, timeout=_rpc_timeout(reply, self._cancels), metadata=metadata)
        except BaseException:
            fork_guard.end()
            raise
        reply.abandon = partial(self._cancel, rpc)
        rpc.add_done_callback(fork_guard.end)
        rpc.add_done_callback(lambda rpc: self._end(reply, rpc.result))

    def send_for_thread(self, reply: Reply[Any]) -> None:
        """See `Connection.send_for_thread`."""
        request = reply.request
        method, message, metadata = getattr(self._stub, request.method), encode(request), self._metadata()
        cancels = self._cancels
        timeout_s = _rpc_timeout(reply, cancels)

        def call() -> Any:
            with fork_guard:
                return method(message, timeout=timeout_s, metadata=metadata)

        if cancels:
            # The fastest way. gRPC cancels the request when it times out, and when its caller is interrupted.
            self._end(reply, call)
        else:
            # A blocking call cannot be left without cancelling it, so another thread makes it. (A future would cost
            # gRPC itself a new thread when no other request is in flight.)
            self._threads.run(partial(self._end, reply, call))

    def close(self) -> None:
        """See `Connection.close`."""
        self._threads.close()
        self._channel.close()

    def _cancel(self, rpc: grpc.Future) -> None:
        if self._cancels:
            rpc.cancel()

    def _end(self, reply: Reply[Any], get_message: Callable[[], Any]) -> None:
        """End a reply with the message that a finished RPC returns, or with its error."""
        try:
            result = decode(reply.request, get_message())
        except grpc.RpcError as exc:
            error: Exception = _error(exc, reply.request, self.url, self._target)
            error.__cause__ = exc
        except grpc.FutureCancelledError as exc:
            error = UnavailableError(f"the request to {self.url} was cancelled", url=self.url)
            error.__cause__ = exc
        except Exception as exc:
            error = exc
        else:
            self._ask_version()
            reply.end(result)
            return
        if isinstance(error, UnavailableError):
            # The channel may have lost its server, and another version may answer after the next connect.
            self._cancels = self._asked_version = False
        reply.end(error=error)

    def _ask_version(self) -> None:
        if self._asked_version or not self._one_server:
            return
        self._asked_version = True
        with contextlib.suppress(Exception):
            message, metadata = encode(ServerMetadata()), self._metadata()
            fork_guard.begin()
            rpc = self._stub.ServerMetadata.future(message, timeout=LEFTOVER_S, metadata=metadata)
            rpc.add_done_callback(fork_guard.end)
            rpc.add_done_callback(self._read_version)

    def _read_version(self, rpc: grpc.Future) -> None:
        with contextlib.suppress(Exception):
            self._cancels = cancels_requests(decode(ServerMetadata(), rpc.result()))

    def _metadata(self) -> list[tuple[str, str]] | None:
        # gRPC accepts only lower-case names.
        return [(name.lower(), value) for name, value in read_headers(self._headers).items()] or None


def _rpc_timeout(reply: Reply[Any], cancels: bool) -> float:
    return reply.timeout_s if cancels else reply.timeout_s + LEFTOVER_S


def cancels_requests(server: Metadata) -> bool:
    """Whether a server is a Triton that survives cancelled gRPC requests: 2.53 or newer (server#7368)."""
    # `tamiz serve` gives its Triton a name of its own.
    triton = server.name == "triton" or server.name.startswith("tamiz-triton-")
    version = re.match(r"(\d+)\.(\d+)", server.version)
    return triton and version is not None and (int(version[1]), int(version[2])) >= (2, 53)


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


def _error(exc: grpc.RpcError, request: Request[Any], url: str, target: str) -> ServerError:
    code = exc.code()
    kind = _KINDS.get(code, InferenceError)
    text = exc.details() or ""
    if_missing = ""
    if kind is UnavailableError:
        # What gRPC reports when an HTTP server answers, or hangs up as Triton's does.
        if any(sign in text for sign in ("Failed parsing HTTP/2", "http1.x server", "Socket closed")):
            text += "; is this the gRPC port?"
        text += (proxy := describe_proxy(target))
        if not proxy and "is this the" not in text:
            if_missing = how_to_start(url)
    return make_error(kind, text, status=code.name, request=request, url=url, if_missing=if_missing)


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
    if is_loopback(target):
        # gRPC would use a proxy for most names of this machine's loopback.
        settings.append(("grpc.enable_http_proxy", 0))
    settings += options
    if tls is None:
        return grpc.insecure_channel(target, settings)
    credentials = grpc.ssl_channel_credentials(tls.read("ca"), tls.read("key"), tls.read("certificate"))
    return grpc.secure_channel(target, credentials, settings)
