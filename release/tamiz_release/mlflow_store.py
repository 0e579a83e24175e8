"""MLflow store: which MLflow server or database is used, and a client of it that fails soon and says nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from tamiz.errors import TamizError, TrackingError, first_line, os_reason

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONNECT_TIMEOUT_S = 5.0
"""Seconds to wait for a connection to a server or a database, before MLflow's own retries would begin."""

REQUEST_TIMEOUT_S = 10
"""Seconds to wait for the answer to a request, unless ``MLFLOW_HTTP_REQUEST_TIMEOUT`` is set; MLflow waits for 120."""

_FILE_TIMEOUT_S = 120
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""Variables that MLflow reads at each request, besides the timeout. By default it retries for minutes."""


@dataclass(frozen=True)
class Store:
    """Where MLflow keeps runs and registered models.

    Attributes:
        tracking: URI of the store of runs.
        registry: URI of the store of registered models, most often the same.
    """

    tracking: str
    registry: str

    @property
    def public_tracking(self) -> str:
        """The URI of the runs without a password."""
        return without_password(self.tracking)

    @property
    def public_registry(self) -> str:
        """The URI of the registered models without a password."""
        return without_password(self.registry)


def find_store(recorded: str | None) -> Store | None:
    """The store that is configured.

    ``MLFLOW_TRACKING_URI`` comes after what was recorded, because MLflow sets this variable itself to the store that
    was used last; but it completes a recorded URI by its password, which is never recorded.

    Args:
        recorded: the URI of the store of runs that a manifest has; None if it has none.

    Returns:
        the store; None if no MLflow is configured.
    """
    registry, tracking = (os.environ.get(f"MLFLOW_{kind}_URI") or None for kind in ("REGISTRY", "TRACKING"))
    if recorded is None or (tracking is not None and without_password(tracking) == recorded):
        recorded = tracking or registry
    return None if recorded is None else Store(recorded, registry or recorded)


def recordable(uri: str) -> str:
    """A URI as a manifest records it: without a password, and with the whole path of a database file."""
    path = _database_file(uri)
    return without_password(uri) if path is None else f"sqlite:///{path.resolve()}"


def without_password(uri: str) -> str:
    """A URI without the password in it."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    if parts.password is None:
        return uri
    user, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{place}"))


@contextmanager
def open_store(store: Store) -> Iterator[MlflowClient]:
    """A client of a store, while MLflow prints nothing and gives up soon.

    Raises:
        TrackingError: the store cannot be used, or anything in the block fails in MLflow.
    """
    for uri in dict.fromkeys((store.tracking, store.registry)):
        _require_reachable(uri)
    with _quiet():
        try:
            from mlflow import MlflowClient
        except ImportError as exc:
            raise TrackingError('mlflow is not installed; type: pip install "tamiz[train]"') from exc
        try:
            yield MlflowClient(store.tracking, store.registry)
        except TamizError:
            raise
        except Exception as exc:
            # MLflow raises its own errors as well as SQLAlchemy's and network errors, which may name the whole URI.
            reason = first_line(exc).replace(store.tracking, store.public_tracking)
            reason = reason.replace(store.registry, store.public_registry)
            raise TrackingError(f"{store.public_registry}: {reason}") from exc


@contextmanager
def more_time_for_files() -> Iterator[None]:
    """Wait longer for answers while files are sent or fetched: a server may store them elsewhere before it answers."""
    usual = str(REQUEST_TIMEOUT_S)
    # Anything else is what the user set.
    is_usual = os.environ.get(_TIMEOUT) == usual
    if is_usual:
        os.environ[_TIMEOUT] = str(_FILE_TIMEOUT_S)
    try:
        yield
    finally:
        if is_usual:
            os.environ[_TIMEOUT] = usual


def _require_reachable(uri: str) -> None:
    """Fail at once if nothing answers at the address: MLflow would retry for minutes, and create a missing database."""
    path = _database_file(uri)
    if path is not None:
        if not path.is_file():
            raise TrackingError(f"{uri}: no such file")
        return
    parts = urlsplit(uri)
    port = _port(parts)
    if parts.hostname is None or port is None or _has_proxy(parts):
        return
    try:
        socket.create_connection((parts.hostname, port), CONNECT_TIMEOUT_S).close()
    except OSError as exc:
        raise TrackingError(
            f"{without_password(uri)}: no answer from {parts.hostname}:{port}: {os_reason(exc)}"
        ) from exc


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port or _PORTS.get(parts.scheme.partition("+")[0])
    except ValueError:
        return None


def _has_proxy(parts: SplitResult) -> bool:
    proxies = getproxies()
    return (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(parts.hostname or "")


def _database_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for any other store."""
    scheme, separator, path = uri.partition(":///")
    return Path(path.partition("?")[0]) if separator and scheme.partition("+")[0] == "sqlite" and path else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Let MLflow print and log nothing; it logs each step of updating a database, and prints links to runs."""
    settings = _SETTINGS | {_TIMEOUT: str(REQUEST_TIMEOUT_S)}
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImportError):
                import mlflow  # noqa: F401 (it sets its log level when it is imported)
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)
