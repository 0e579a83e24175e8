"""Control of a running server: which models it has, and loading a changed one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from tamiz.errors import InferenceError, InvalidRequestError, RepositoryError, TamizError, UsageError
from tamiz.served_version import live_versions
from tamiz.transports import open_transport, parse_url
from tamiz.transports.requests import ModelState, RepositoryIndex, RepositoryModelLoad

from .repository import Change, Repository

LOAD_TIMEOUT_S = 300.0


class Control:
    """The calls that change a server, as a context manager.

    Args:
        url: ``grpc://host:port`` of one server, or ``grpcs://``.
        key: the server's; None for a server that wants none.

    Raises:
        UsageError: the URL makes no sense.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        address = parse_url(url)
        if address.several or not address.scheme.startswith("grpc"):
            raise UsageError(f"url: {url!r}; a server is changed alone, through grpc://host:port")
        self._transport = open_transport(address.urls[0], key=key)

    def load(self, model: str) -> None:
        """Load a model, or what has changed of it; returns when the change is in force.

        Raises:
            ServerError: the server is not there, wants a key, or cannot load it; then it goes on with what it had.
        """
        self._transport.call(RepositoryModelLoad(model), LOAD_TIMEOUT_S)

    def models(self) -> list[ModelState]:
        """The models in the server's repository, and how they are.

        Raises:
            ServerError: the server is not there or wants a key.
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
    """The control of the server at a URL; None where no URL was given, which leaves it to the disk alone.

    Raises:
        ServerError: the server is not there or wants a key, before anything is changed on disk.
    """
    if url is None:
        yield None
        return
    with Control(url, key) as control:
        control.models()
        yield control


def change(repository: Repository, model: str, alter: Callable[[], Change], control: Control | None) -> None:
    """Change which version is live, on disk and in a running server, or in neither.

    Only where the server gives no answer in time may it come to follow a change that is undone on disk.

    Args:
        repository: that the server serves.
        model: in it.
        alter: changes the repository: its `promote` or `rollback`.
        control: of the server; None changes the disk alone.

    Raises:
        RepositoryError: the disk could not be changed; or the server refused the change, or serves another
            repository, and the change is undone.
        ServerError: the server could not be asked; the change is undone.
    """
    before, after = alter()
    if control is None:
        return
    try:
        control.load(model)
        ready = {state.version for state in control.models() if (state.model, state.state) == (model, "READY")}
        if not ready.issuperset(live_versions(after)):
            raise RepositoryError(
                f"{control.url} does not serve {repository.path}: of {model} it has version "
                f"{', '.join(map(str, sorted(ready)))} live after the change, which is undone"
            )
    except BaseException as exc:
        repository.restore(model, before, instead_of=after)
        if isinstance(exc, InvalidRequestError | InferenceError):
            raise RepositoryError(f"the server refused the change, which is undone: {exc}") from exc
        if not isinstance(exc, TamizError):
            # Interrupted: the server goes on with what it was asked for.
            with contextlib.suppress(TamizError):
                control.load(model)
        raise
