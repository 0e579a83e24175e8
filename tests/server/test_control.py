from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Served
from graphs import make_spec

from tamiz import RepositoryError, errors
from tamiz_server.control import Control, change
from tamiz_server.repository import Repository


def test_a_call_without_the_key_is_refused(served: Served) -> None:
    for key in (None, "wrong"):
        with (
            Control(served.triton.url, key) as control,
            pytest.raises(errors.AccessError, match="wants a key"),
        ):
            control.load("grey")


def test_models_tells_what_the_server_has(served: Served) -> None:
    states = {(state.model, state.version): state.state for state in served.control.models()}
    assert states["grey", 1] == "READY"


def test_a_change_that_the_server_refuses_is_undone_and_the_old_version_goes_on(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    (served.repository.path / name / "2" / "model.onnx").write_bytes(b"broken")
    with pytest.raises(errors.RepositoryError, match="the server refused the change, which is undone"):
        change(served.repository, name, lambda: served.repository.promote(name, 2), served.control)
    assert served.repository.live(name).version == 1
    with served.client(name) as client:
        assert client.live_version == 1


def test_a_change_that_the_server_was_not_asked_for_is_undone(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    with Control("grpc://127.0.0.1:9", "key") as control, pytest.raises(errors.UnavailableError):
        change(served.repository, name, lambda: served.repository.promote(name, 2), control)
    assert served.repository.live(name).version == 1


def test_a_change_of_another_repository_than_the_server_serves_is_undone(served: Served, tmp_path: Path) -> None:
    name, spec = served.new_name(), make_spec(["a", "b"])
    served.publish(name, spec)
    other = Repository(tmp_path / "models")
    for _ in range(2):
        other.publish(name, served.folder / f"{name}.onnx", spec)
    with pytest.raises(RepositoryError, match=f"does not serve {other.path}: of {name} it has version 1 live"):
        change(other, name, lambda: other.promote(name, 2), served.control)
    assert other.live(name).version == 1


def test_an_interrupted_change_is_undone_in_the_server_too(served: Served) -> None:
    class Interrupting:
        def load(self, model: str) -> None:
            served.control.load(model)
            self.load = served.control.load
            raise KeyboardInterrupt

    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    with pytest.raises(KeyboardInterrupt):
        change(served.repository, name, lambda: served.repository.promote(name, 2), Interrupting())
    assert served.repository.live(name).version == 1
    with served.client(name) as client:
        assert client.classify(np.zeros((28, 28), np.uint8)).label == "a"


def test_the_commands_promote_roll_back_and_list(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d", "e"], 32, 32))
    where = ["--repository", served.repository.path, "--url", served.triton.url, "--key", served.triton.key]
    with served.client(name) as client:
        assert client.live_version == 1
        assert "version 2 is live" in tamiz("promote", name, 2, *where).stdout
        client.refresh()
        assert client.spec.labels == ("c", "d", "e")
        assert "version 1 is live" in tamiz("rollback", name, *where).stdout
        client.refresh()
        assert client.spec.labels == ("a", "b")
    refused = tamiz("rollback", name, *where)
    assert refused.returncode == 1
    assert "nothing to go back to" in refused.stderr
    assert name in tamiz("models", "--repository", served.repository.path).stdout
    assert "READY" in tamiz("models", "--url", served.triton.url, "--key", served.triton.key).stdout
    no_key = tamiz("promote", name, 2, "--repository", served.repository.path, "--url", served.triton.url)
    assert no_key.returncode == 1
    assert "wants a key" in no_key.stderr
    assert served.repository.live(name).version == 1
