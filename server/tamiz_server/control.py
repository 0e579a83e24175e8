"""Control of a running server over gRPC: list its models, load a model again after its repository changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tamiz.errors import UsageError
from tamiz.transports import open_transport, parse_url
from tamiz.transports.requests import ModelState, RepositoryIndex, RepositoryModelLoad

LOAD_TIMEOUT_S = 300.0


class Control:
    """A connection to one server that can load models; a context manager.

    The embedded server (`Triton`, ``tamiz serve``) allows these calls only with its key.

    Args:
        url: ``grpc://host:port`` or ``grpcs://host:port`` of one server.
        key: key of the server; None if the server needs none.

    Attributes:
        url: URL of the server.

    Raises:
        UsageError: the URL is malformed, names several servers, or is not a gRPC URL.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        address = parse_url(url)
        if address.several or not address.scheme.startswith("grpc"):
            raise UsageError(f"url: {url!r}: give one server over gRPC, grpc://host:port")
        self._transport = open_transport(address.urls[0], key=key)

    def load(self, model: str) -> None:
        """Load a model, or load it again after its configuration changed; return once the change is in effect.

        Raises:
            ServerError: the server cannot be reached, rejects the key, or cannot load the model. In the last case it
                keeps serving the versions that it had loaded before.
        """
        self._transport.call(RepositoryModelLoad(model), LOAD_TIMEOUT_S)

    def models(self) -> list[ModelState]:
        """List the versions in the server's model repository, with their states.

        Raises:
            ServerError: the server cannot be reached or rejects the key.
        """
        return self._transport.call(RepositoryIndex(), LOAD_TIMEOUT_S)

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
def open_control(url: str | None, key: str | None) -> Iterator[Control | None]:
    """Connect to the server that follows a change of the repository, if a URL is given.

    The server is asked once, so that a missing server or a wrong key is found before anything is changed on disk.

    Args:
        url: ``grpc://host:port`` of one server; None yields None, and only the disk is changed.
        key: key of the server; None if the server needs none.

    Raises:
        UsageError: the URL is malformed, names several servers, or is not a gRPC URL.
        ServerError: the server cannot be reached or rejects the key.
    """
    if url is None:
        yield None
        return
    with Control(url, key) as control:
        control.models()
        yield control
