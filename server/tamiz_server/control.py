"""Control of a running server over gRPC: list its models, load a model again after its repository changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from tamiz.errors import UsageError
from tamiz.protocol import error_from_rpc
from tamiz.transport import open_transport, parse_url

LOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class ModelState:
    """State of one version of a model on a server.

    Attributes:
        model: name of the model.
        version: number of the version; 0 if the server reports none.
        state: Triton's name of the state: ``READY``, ``UNAVAILABLE``, ``LOADING``, ``UNLOADING`` or ``UNLOADED``.
        reason: why the version is not ready; empty if it is.
    """

    model: str
    version: int
    state: str
    reason: str


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
        self._transport = open_transport(address.scheme, address.targets[0], key=key)

    def load(self, model: str) -> None:
        """Load a model, or load it again after its configuration changed; return once the change is in effect.

        Raises:
            ServerError: the server cannot be reached, rejects the key, or cannot load the model. In the last case it
                keeps serving the versions that it had loaded before.
        """
        self._call("RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name=model), model)

    def models(self) -> list[ModelState]:
        """List the versions in the server's model repository, with their states.

        Raises:
            ServerError: the server cannot be reached or rejects the key.
        """
        reply = self._call("RepositoryIndex", service_pb2.RepositoryIndexRequest(), "")
        return [
            ModelState(entry.name, int(entry.version or 0), entry.state or "UNLOADED", entry.reason)
            for entry in reply.models
        ]

    def _call(self, method: str, request: Any, model: str) -> Any:
        try:
            return self._transport.call(method, request, LOAD_TIMEOUT_S)
        except grpc.RpcError as exc:
            raise error_from_rpc(exc, url=self.url, model=model) from exc

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


def change(repository: Any, model: str, alter: Callable[[], Any], control: Control | None) -> None:
    """Deprecated: use `tamiz_server.promote` and `tamiz_server.rollback`."""
    from .promotion import follow

    follow(repository, model, alter(), control)
