from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import pytest

from tamiz import TrackingError
from tamiz_release import mlflow_store
from tamiz_release.mlflow_store import Store, find_store, more_time_for_files, open_store, recordable, without_password

SERVER, OTHER = "http://mlflow:5000", "http://other:5000"


def test_nothing_is_configured_by_default() -> None:
    assert find_store(None) is None


@pytest.mark.parametrize(
    ("recorded", "variables", "expected"),
    [
        pytest.param(SERVER, {}, Store(SERVER, SERVER), id="recorded"),
        pytest.param(None, {"MLFLOW_TRACKING_URI": SERVER}, Store(SERVER, SERVER), id="variable"),
        pytest.param(SERVER, {"MLFLOW_TRACKING_URI": OTHER}, Store(SERVER, SERVER), id="recorded before variable"),
        pytest.param(SERVER, {"MLFLOW_REGISTRY_URI": OTHER}, Store(SERVER, OTHER), id="registry apart"),
        pytest.param(None, {"MLFLOW_REGISTRY_URI": OTHER}, Store(OTHER, OTHER), id="registry alone"),
        pytest.param(None, {"MLFLOW_TRACKING_URI": ""}, None, id="empty"),
        pytest.param(
            "postgresql://a@host/db",
            {"MLFLOW_TRACKING_URI": "postgresql://a:secret@host/db"},
            Store("postgresql://a:secret@host/db", "postgresql://a:secret@host/db"),
            id="password from the variable",
        ),
    ],
)
def test_the_store_is_the_recorded_one_unless_a_registry_is_named(
    recorded: str | None, variables: dict[str, str], expected: Store | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_store(recorded) == expected


def test_a_recorded_uri_has_the_whole_path_and_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recordable("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert recordable(f"sqlite:///{tmp_path}/mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert recordable("postgresql://a:secret@host:1/db?x=1") == "postgresql://a@host:1/db?x=1"
    assert recordable("http://mlflow:5000") == "http://mlflow:5000"
    assert without_password("http://[broken") == "http://[broken"


def test_a_message_has_no_password() -> None:
    uri = "postgresql://someone:secret@127.0.0.1:9/mlflow"
    with pytest.raises(TrackingError, match="no answer from 127.0.0.1:9") as caught, open_store(Store(uri, uri)):
        pass
    assert "secret" not in str(caught.value)


def test_a_database_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/none.db"
    with pytest.raises(TrackingError, match="none.db: no such file"), open_store(Store(uri, uri)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_server_that_accepts_connections_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_store, "REQUEST_TIMEOUT_S", 1)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as hanging:
        uri = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(TrackingError, match="127.0.0.1"), open_store(Store(uri, uri)) as client:
            client.get_registered_model("pets")
        assert time.monotonic() - began < 30
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


@pytest.mark.parametrize(("of_user", "of_requests", "of_files"), [(None, "10", "120"), ("7", "7", "7")])
def test_files_have_more_time_than_requests_unless_the_user_set_it(
    of_user: str | None, of_requests: str, of_files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stores its files elsewhere answers when it has stored them."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    if of_user is not None:
        monkeypatch.setenv(name, of_user)
    (tmp_path / "mlflow.db").touch()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with open_store(Store(uri, uri)):
        assert os.environ[name] == of_requests
        with more_time_for_files():
            assert os.environ[name] == of_files
        assert os.environ[name] == of_requests
    assert os.environ.get(name) == of_user
