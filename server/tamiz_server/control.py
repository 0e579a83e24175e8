"""Control of a running server: list its models, load a model again after its repository changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from google.protobuf.json_format import MessageToJson
from tritonclient.grpc import model_config_pb2

from tamiz.arguments import check_text, check_type
from tamiz.errors import UsageError
from tamiz.transports import Headers, Tls, Transport, open_transport, parse_url
from tamiz.transports.requests import ModelConfig, ModelState, RepositoryIndex, RepositoryModelLoad, ServerMetadata

LOAD_TIMEOUT_S = 300.0


class Control:
    """A connection to one server that can load models; a context manager.

    The embedded server (`Triton`, ``tamiz serve``) allows these calls only with its key.

    Args:
        url: URL of one server: ``grpc``, ``grpcs``, ``http`` or ``https``, as `tamiz.Client` takes it.
        key: key of the server; None if the server needs none.
        tls: certificates, for ``grpcs`` and ``https``.
        headers: sent with every request, for a proxy in front of the server.

    Attributes:
        url: URL of the server.

    Raises:
        UsageError: the URL or a header is malformed, the URL names several servers, or a certificate cannot be read.
        MissingExtraError: the URL is an HTTP one, and the extra ``http`` is not installed.
    """

    def __init__(self, url: str, key: str | None = None, *, tls: Tls | None = None, headers: Headers = None) -> None:
        self.url = url
        address = parse_url(url, tls)
        if address.several:
            raise UsageError(f"url: {url!r}: a change goes to one server at a time; give one host:port")
        self._transport = open_transport(address.urls[0], tls=tls, headers=headers, key=key)

    @property
    def transport(self) -> Transport:
        """The connection to the server, for requests that have no method here."""
        return self._transport

    def load(self, model: str, config: model_config_pb2.ModelConfig | None = None) -> None:
        """Load a model, or load it again after its configuration changed; return once the change is in effect.

        Args:
            model: name of the model.
            config: configuration to serve the model with; None uses that in the server's model repository. Triton
                uses it until the one in the repository changes and the model is loaded again.

        Raises:
            ServerError: the server cannot be reached, rejects the key, or cannot load the model. In the last case it
                keeps serving the versions that it had loaded before.
        """
        check_text("model", model, "the name of a model")
        check_type("config", config, (model_config_pb2.ModelConfig, type(None)), "a ModelConfig, or None")
        json = None if config is None else MessageToJson(config, preserving_proto_field_name=True)
        self._transport.call(RepositoryModelLoad(model, json), LOAD_TIMEOUT_S)

    def models(self) -> list[ModelState]:
        """List the versions in the server's model repository, with their states.

        Raises:
            ServerError: the server cannot be reached or rejects the key.
        """
        return self._transport.call(RepositoryIndex(), LOAD_TIMEOUT_S)

    def config(self, model: str) -> model_config_pb2.ModelConfig:
        """Read the configuration with which the server serves a model.

        Raises:
            ServerError: the server cannot be reached, or it does not serve the model.
        """
        check_text("model", model, "the name of a model")
        return self._transport.call(ModelConfig(model), LOAD_TIMEOUT_S)

    def server_version(self) -> str:
        """Read the version of Triton, such as ``2.51.0``.

        Raises:
            ServerError: the server cannot be reached.
        """
        return self._transport.call(ServerMetadata(), LOAD_TIMEOUT_S).version

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def open_control(
    url: str | None, key: str | None = None, *, tls: Tls | None = None, headers: Headers = None
) -> Iterator[Control | None]:
    """Connect to the server that follows a change of the repository, if a URL is given.

    The server is asked once, so that a missing server or a wrong key is found before anything is changed on disk.

    Args:
        url: URL of one server; None yields None, and only the disk is changed.
        key: key of the server; None if the server needs none.
        tls: certificates, for ``grpcs`` and ``https``.
        headers: sent with every request.

    Raises:
        UsageError: what `Control` raises; or certificates or headers are given without a URL.
        ServerError: the server cannot be reached or rejects the key.
    """
    if url is None:
        if tls is not None or headers:
            raise UsageError("--url is missing: certificates and headers are for the connection to a running server")
        yield None
        return
    with Control(url, key, tls=tls, headers=headers) as control:
        control.models()
        yield control
