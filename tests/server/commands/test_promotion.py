from __future__ import annotations

import subprocess
from collections.abc import Callable

from conftest import Served
from graphs import make_spec


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
        assert "version 1 is live" in tamiz("rollback", name, *options).stdout
        client.refresh()
        assert client.spec.labels == ("a", "b")
    rejected = tamiz("rollback", name, *options)
    assert rejected.returncode == 1
    assert "nothing to roll back to" in rejected.stderr


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
