from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Served
from graphs import make_spec, write_grey_graph
from tls_proxy import Authority, TlsProxy

from tamiz_server.repository import Repository


def test_the_commands_change_the_live_version_on_disk_and_in_the_server(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d", "e"], 32, 32))
    options = ["--repository", served.repository.path, "--url", served.triton.url, "--key", served.triton.key]
    with served.client(name) as client:
        assert client.live_version == 1
        assert "version 2 is live" in tamiz("promote", name, 2, *options).stdout
        client.refresh()
        assert client.spec.labels == ("c", "d", "e")
        line = tamiz("rollback", name, *options).stdout
        assert line == f"{name}: version 1 is live in {served.repository.path} and in {served.triton.url}\n"
        client.refresh()
        assert client.spec.labels == ("a", "b")
    rejected = tamiz("rollback", name, *options)
    assert rejected.returncode == 1
    assert "nothing to roll back to" in rejected.stderr


def test_settings_that_were_edited_by_hand_are_warned_of_when_the_server_loads_them(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name = served.new_name()
    for labels in (["a", "b"], ["c", "d"]):
        served.publish(name, make_spec(labels))
    served.repository.update_config(
        name, lambda config: setattr(config.dynamic_batching, "max_queue_delay_microseconds", 900)
    )
    disk, server = ["--repository", served.repository.path], ["--url", served.triton.url, "--key", served.triton.key]
    warning = f"warning: model {name}: max_queue_delay_us: 900: Triton 2.51.0 may stop using instances"
    assert warning in tamiz("promote", name, 2, *disk, *server).stdout
    assert warning in tamiz("rollback", name, *disk).stdout
    assert warning in tamiz("models", *disk).stderr
    assert warning in tamiz("models", *server).stderr


def test_a_promotion_without_the_servers_key_changes_nothing(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    done = tamiz("promote", name, 2, "--repository", served.repository.path, "--url", served.triton.url)
    assert done.returncode == 1
    assert "the key is missing or wrong" in done.stderr
    assert served.repository.live_version(name).version == 1


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_the_commands_reach_a_server_behind_a_proxy_that_demands_a_client_certificate(
    scheme: str, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    authority = Authority(tmp_path)
    certificate, key = authority.sign("operator")
    port = served.triton.ports.grpc if scheme == "grpcs" else served.triton.ports.http
    with TlsProxy(port, authority, mutual=True) as proxy:
        server = ["--url", f"{scheme}://127.0.0.1:{proxy.port}", "--key", served.triton.key, "--header", "x-team=a"]
        options = [*server, "--ca", authority.path, "--certificate", certificate, "--certificate-key", key]
        done = tamiz("promote", name, 2, "--repository", served.repository.path, *options)
        assert "version 2 is live" in done.stdout, done.stderr
        assert name in tamiz("models", *options).stdout
        done = tamiz("rollback", name, "--repository", served.repository.path, *options)
        assert "version 1 is live" in done.stdout, done.stderr
        refused = tamiz("models", *server, "--ca", authority.path)
        assert refused.returncode == 1
        assert "error: " in refused.stderr


@pytest.mark.parametrize("command", [("models",), ("promote", "m", 1), ("rollback", "m"), ("publish", "x.onnx")])
def test_a_malformed_header_is_a_usage_error_that_does_not_repeat_its_value(
    command: Sequence[object], tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = tamiz(*command, "--url", "grpc://localhost:1", "--header", "=secret")
    assert done.returncode == 2
    assert "write name=value" in done.stderr
    assert "secret" not in done.stderr


def test_without_a_url_the_commands_do_not_claim_that_a_server_follows(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    for _ in range(2):
        repository.publish("pets", write_grey_graph(tmp_path / "graph.onnx", spec), spec)
    promoted = tamiz("promote", "pets", 2, "--repository", repository.path)
    assert promoted.stdout.startswith(f"pets: version 2 is live in {repository.path}; a running server still serves")
    assert "still serves version 1: pass its --url" in promoted.stdout
    rolled_back = tamiz("rollback", "pets", "--repository", repository.path)
    assert "version 1 is live" in rolled_back.stdout
    assert "still serves version 2: pass its --url" in rolled_back.stdout
