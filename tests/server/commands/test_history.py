from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from graphs import make_spec, write_grey_graph

from tamiz_server.repository import Repository

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


def test_a_rollout_from_the_command_line_is_in_the_history_until_its_leftovers_are_pruned(
    tamiz: Tamiz, tmp_path: Path
) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    for _ in range(4):
        repository.publish("pets", graph, spec)
    where = ("--repository", repository.path)
    done = tamiz("promote", "pets", 2, "--canary", "10%", "--sticky", "image", "--reason", "first try", *where)
    assert "version 1 is live, version 2 as a canary answers 0.1 of the calls, chosen by image in" in done.stdout
    assert "version 1 is live in" in tamiz("rollback", "pets", "--reason", "[too slow]", *where).stdout
    assert "sent 0.05 of the calls in" in tamiz("promote", "pets", 3, "--shadow", "0.05", *where).stdout
    assert "version 3 is live in" in tamiz("promote", "pets", 3, *where).stdout
    entries = json.loads(tamiz("history", "pets", "--json", *where).stdout)
    assert [(e["what"], e["from"], e["to"], e["why"]) for e in entries[4:]] == [
        ("canary", 1, 2, "first try"),
        ("rollback", 2, 1, "[too slow]"),
        ("shadow", 1, 3, ""),
        ("promote", 1, 3, ""),
    ]
    table = tamiz("history", "pets", *where).stdout
    assert "canary (canary 0.1, sticky image)" in table
    assert "[too slow]" in table
    assert tamiz("versions", "prune", "pets", "--keep", 0, *where).stdout == (
        "removed versions 2, 4 of pets\nkept versions 1, 3\n"
    )
    assert tamiz("versions", "prune", "pets", "--keep", 0, *where).stdout.startswith("pets: nothing to remove\n")


def test_wrong_shares_are_refused_in_one_line(tamiz: Tamiz, tmp_path: Path) -> None:
    for options, reason in {
        ("--canary", "10"): "--canary 10: give a share of the calls, above 0 and at most 1: 10% or 0.1",
        ("--shadow", "0%"): "--shadow 0%: give a share",
        ("--canary", "ten"): "--canary ten: give a share",
        ("--sticky", "image"): "--sticky is for a canary",
        ("--canary", "5%", "--sticky", "user"): "--sticky user: only image is known",
    }.items():
        done = tamiz("promote", "pets", 2, *options, "--repository", tmp_path)
        assert done.returncode == 2
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
