"""The wire: one connection to one server, behind the messages of Triton's gRPC protocol.

A transport has two ways to carry out a call, since each client is fastest with one of them: `call` waits in the
calling thread, `begin` returns a future at once. `AsyncClient` too is built on these futures and not on
`grpc.aio`, whose poller is shared by all event loops of a process and wakes every one of them for each reply
(grpc/grpc issue 25364).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from . import forks
from .errors import UsageError
from .protocol import InferRequest

DEFAULT_URL = "grpc://localhost:8001"

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""Largest reply that is taken; probabilities of 16,384 images with 1,000 labels."""

KEEPALIVE_S = 60
"""A connection with a call under way is probed after so many silent seconds."""

CONNECT_TIMEOUT_S = 5
"""An attempt to connect may take so long: for TLS over an ocean, with a lost packet, or to a machine under load."""

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]] | None
"""Headers of every call, or a function that gives them for each call, as tracing wants."""

_SCHEMES = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443}
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^/:,@\s]+)(:(?P<port>\d{1,5}))?")
_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class CallFuture(Protocol):
    """A call under way, as `concurrent.futures.Future` and gRPC's own futures have it in common."""

    def add_done_callback(self, function: Callable[[Any], None], /) -> None:
        """Have a function called, in any thread, when the call has ended."""

    def cancel(self) -> bool:
        """Give the call up; the server is told."""

    def result(self) -> Any:
        """The reply, or raise what the call failed with."""


class Transport(Protocol):
    """A connection to one server.

    Methods are those of Triton's gRPC service, with its messages; only ModelInfer takes an `InferRequest`. Failures
    are `grpc.RpcError` with ``code()`` and ``details()``.
    """

    def call(self, method: str, request: Any, timeout_s: float) -> Any:
        """Call a method of Triton's gRPC service and wait for the reply."""

    def begin(self, method: str, request: Any, timeout_s: float) -> CallFuture:
        """Begin such a call."""

    def close(self) -> None:
        """Close the connection; calls under way fail."""


@dataclass(frozen=True)
class Tls:
    """Certificates for ``grpcs`` and ``https``, each the path of a PEM file.

    Attributes:
        ca: of the authority that signed the server's certificate; None trusts the authorities that gRPC, or the
            system for ``https``, trusts.
        certificate: the client's own, for mutual TLS.
        key: the client's own private key, for mutual TLS.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("ca", "certificate", "key"):
            if not isinstance(getattr(self, name), str | Path | None):
                raise UsageError(f"tls.{name}: a {type(getattr(self, name)).__name__}; give the path of a PEM file")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("tls: a client's certificate and its key belong together; give both or neither")

    def read(self, name: str) -> bytes | None:
        """The content of one of the files.

        Raises:
            UsageError: it cannot be read.
        """
        path = getattr(self, name)
        try:
            return None if path is None else Path(path).read_bytes()
        except OSError as exc:
            raise UsageError(f"tls.{name}: {path}: {exc.strerror}") from exc

    def context(self) -> ssl.SSLContext:
        """What ``https`` needs of it; ``grpcs`` has it checked, since gRPC tells of a bad file only on a terminal.

        Raises:
            UsageError: a file cannot be read, or is not PEM, or the key is not the certificate's.
        """
        for name in ("ca", "certificate", "key"):
            self.read(name)
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                # Without a password OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError as exc:
            raise UsageError(f"tls: {exc.reason or exc}; give PEM files, the key without a password") from exc
        return context


@dataclass(frozen=True)
class Address:
    """Where one or several servers of the same models are.

    Attributes:
        scheme: ``grpc``, ``grpcs``, ``http`` or ``https``.
        targets: ``host:port`` of each server; or one ``dns:///name:port``, whose addresses gRPC uses in turn.
    """

    scheme: str
    targets: tuple[str, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        """The URL of each server alone."""
        return tuple(target if target.startswith("dns:") else f"{self.scheme}://{target}" for target in self.targets)

    @property
    def several(self) -> bool:
        """Whether more than one server may answer."""
        return len(self.targets) > 1 or self.targets[0].startswith("dns:")


def parse_url(url: str, tls: Tls | None = None) -> Address:
    """Read a URL such as ``grpc://a:8001,b:8001``.

    Args:
        url: ``grpc``, ``grpcs``, ``http`` or ``https``, hosts joined by commas, each with its port where that is
            not 8001 for gRPC, 8000 for http or 443 for https; or ``dns:///name:port``.
        tls: certificates, which make ``dns:///`` encrypted, and which ``grpc`` and ``http`` cannot use.

    Raises:
        UsageError: it is not such a URL.
    """
    if url.startswith("dns:///"):
        (target,) = _targets(url, url.removeprefix("dns:///"), 8001)
        return Address("grpcs" if tls else "grpc", (f"dns:///{target}",))
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise UsageError(f"url: {url!r}; write {'dns:///name:port' if scheme == 'dns' else 'grpc://host:port'}")
    if tls and not scheme.endswith("s"):
        raise UsageError(f"url: {url!r} is not encrypted and certificates are given; write {scheme}s://")
    return Address(scheme, _targets(url, rest.removesuffix("/"), _SCHEMES[scheme]))


def _targets(url: str, hosts: str, port: int) -> tuple[str, ...]:
    targets = []
    for host in hosts.split(","):
        found = _HOST.fullmatch(host)
        number = int(found["port"] or port) if found else 0
        if found is None or not 0 < number < 65536:
            raise UsageError(
                f"url: {host!r} of {url!r} is no host:port; write grpc://host:port, or grpc://host:port,host:port"
            )
        targets.append(f"{found['host']}:{number}")
    if len(set(targets)) < len(targets) or (url.startswith("dns:") and len(targets) > 1):
        raise UsageError(f"url: {url!r}; name each server once, and one name after dns:///")
    return tuple(targets)


def open_transport(
    scheme: str, target: str, *, tls: Tls | None = None, headers: Headers = None, key: str | None = None
) -> Transport:
    """A transport to one server; it connects when it is first used.

    Args:
        scheme: of an `Address`.
        target: of an `Address`.
        tls: certificates.
        headers: of every call.
        key: of Triton's restricted protocols.

    Raises:
        UsageError: a certificate cannot be read.
        MissingExtraError: HTTP is wanted, and the extra ``http`` is not installed.
    """
    if key is not None:
        name = "triton-key" if scheme.startswith("http") else "triton-grpc-protocol-triton-key"
        headers = _with_key(headers, name, key)
    if scheme in ("http", "https"):
        from .http_transport import HttpTransport

        return HttpTransport(target, (tls or Tls()).context() if scheme == "https" else None, headers)
    if tls is not None:
        tls.context()
    return GrpcTransport(target, tls or Tls() if scheme == "grpcs" else None, headers)


class GrpcTransport:
    """gRPC, through the stubs of tritonclient; see `Transport`."""

    def __init__(self, target: str, tls: Tls | None = None, headers: Headers = None) -> None:
        self._channel = open_channel(target, tls=tls)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # In the stub's place, since its own would have the pixels in the message.
        self._stub.ModelInfer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=InferRequest.serialize,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        self._headers = headers

    def call(self, method: str, request: Any, timeout_s: float) -> Any:
        """See `Transport`."""
        metadata = self._metadata()
        with forks.calls:
            return getattr(self._stub, method)(request, timeout=timeout_s, metadata=metadata)

    def begin(self, method: str, request: Any, timeout_s: float) -> CallFuture:
        """See `Transport`."""
        metadata = self._metadata()
        forks.calls.begin()
        try:
            future: CallFuture = getattr(self._stub, method).future(request, timeout=timeout_s, metadata=metadata)
        except BaseException:
            forks.calls.end()
            raise
        future.add_done_callback(forks.calls.end)
        return future

    def close(self) -> None:
        """See `Transport`."""
        self._channel.close()

    def _metadata(self) -> list[tuple[str, str]] | None:
        # gRPC takes names in lower case only.
        return [(name.lower(), value) for name, value in read_headers(self._headers).items()] or None


def _with_key(headers: Headers, name: str, key: str) -> Headers:
    return lambda: {**read_headers(headers), name: key}


def read_headers(headers: Headers) -> Mapping[str, str]:
    """The headers of the call that is about to begin.

    Raises:
        UsageError: a name or a value is none that gRPC and HTTP can carry; the value is not told.
    """
    read = (headers() if callable(headers) else headers) or {}
    if not isinstance(read, Mapping):
        raise UsageError(f"headers: a {type(read).__name__}; give a dict of names and values, or a function that does")
    for name, value in read.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise UsageError(f"headers: {name!r}; a name is of letters, digits and -_.")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise UsageError(f"headers: the value of {name!r} is not a string of printable ASCII")
    return read


def open_channel(target: str, options: Iterable[tuple[str, Any]] = (), *, tls: Tls | None = None) -> grpc.Channel:
    """A gRPC channel to ``host:port``, with the options that every channel of Tamiz has and further ones."""
    settings: list[tuple[str, Any]] = [
        # Batches of large images pass gRPC's usual 4 MiB; Triton itself takes up to 2 GiB - 1.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A server that comes back is found within a second, where gRPC's own pause grows to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # By its name a pause, in truth what one attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_S * 1000),
        # Channels of one process would share a connection, and with it a server's limit on calls under way.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if target.startswith("dns:"):
        settings.append(("grpc.lb_policy_name", "round_robin"))
    if target.rpartition(":")[0] in _LOOPBACK:
        # gRPC would ask the proxy of http_proxy for this machine's own loopback.
        settings.append(("grpc.enable_http_proxy", 0))
    settings += options
    if tls is None:
        return grpc.insecure_channel(target, settings)
    credentials = grpc.ssl_channel_credentials(tls.read("ca"), tls.read("key"), tls.read("certificate"))
    return grpc.secure_channel(target, credentials, settings)
