from __future__ import annotations

import json
from pathlib import Path

import pytest
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError
from tamiz_server.history import HISTORY_FILE, append_entry, read_history
from tamiz_server.promotion import promote, rollback
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with two versions of the model ``pets``."""
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    repository.publish("pets", graph, spec)
    repository.publish("pets", graph, spec, reason="more cats")
    return repository


def test_every_change_is_recorded_with_who_what_and_why(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ana")
    start_rollout(repository, "pets", 2, canary=0.1, reason="try it")
    rollback(repository, "pets", reason="too slow", automatic=True)
    promote(repository, "pets", 2, reason="it is better")
    rollback(repository, "pets")
    entries = repository.history("pets")
    assert [(entry.what, entry.before, entry.after, entry.why) for entry in entries] == [
        ("publish", None, 1, ""),
        ("publish", 1, 2, "more cats"),
        ("canary", 1, 2, "try it"),
        ("automatic rollback", 2, 1, "too slow"),
        ("promote", 1, 2, "it is better"),
        ("rollback", 2, 1, ""),
    ]
    assert entries[2].who == "ana"
    assert entries[2].details == {"canary": 0.1}
    assert [entry.time for entry in entries] == sorted(entry.time for entry in entries)


def test_a_change_that_did_not_happen_is_not_recorded(repository: Repository) -> None:
    promote(repository, "pets", 1)
    with pytest.raises(RepositoryError):
        promote(repository, "pets", 9)
    with pytest.raises(RepositoryError):
        rollback(repository, "pets")
    assert [entry.what for entry in repository.history("pets")] == ["publish", "publish"]


def test_a_line_that_a_killed_process_left_unfinished_is_ignored_and_harms_no_other(repository: Repository) -> None:
    folder = repository.path / "pets"
    with (folder / HISTORY_FILE).open("a") as file:
        file.write('{"time": "2026-01-01", "wh')
    promote(repository, "pets", 2, reason="after the crash")
    assert [entry.what for entry in read_history(folder)] == ["publish", "publish", "promote"]
    assert len((folder / HISTORY_FILE).read_text().splitlines()) == 4


def test_a_reason_is_kept_on_one_line_whatever_it_holds(repository: Repository) -> None:
    folder = repository.path / "pets"
    append_entry(folder, "promote", 1, 2, "two\nlines \N{SNOWMAN} \udce9")
    assert read_history(folder)[-1].why.startswith("two\nlines \N{SNOWMAN}")
    json.loads((folder / HISTORY_FILE).read_bytes().splitlines()[-1])
    append_entry(folder, "promote", 1, 2, "x" * 100_000)
    assert len(read_history(folder)[-1].why) <= 1000


def test_a_model_without_history_has_an_empty_one_and_an_unknown_model_is_an_error(repository: Repository) -> None:
    (repository.path / "pets" / HISTORY_FILE).unlink()
    assert repository.history("pets") == []
    with pytest.raises(RepositoryError, match="no model 'dogs'"):
        repository.history("dogs")


@pytest.mark.parametrize(
    "line",
    ["[]", "[" * 100_000, '{"time": 5, "who": "a", "what": "b"}', '{"time": "", "who": "", "what": "", "to": []}'],
)
def test_a_line_that_is_no_entry_is_ignored(line: str, repository: Repository) -> None:
    with (repository.path / "pets" / HISTORY_FILE).open("a") as file:
        file.write(line + "\n")
    assert len(repository.history("pets")) == 2
