from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError
from tamiz_server.history import HISTORY_FILE, append_entries, make_entry, read_history
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
    append_entries(folder, [make_entry("promote", 1, 2, "two\nlines \N{SNOWMAN} \udce9")])
    assert read_history(folder)[-1].why.startswith("two\nlines \N{SNOWMAN}")
    json.loads((folder / HISTORY_FILE).read_bytes().splitlines()[-1])
    append_entries(folder, [make_entry("promote", 1, 2, "x" * 100_000)])
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


def test_a_promotion_that_a_killed_process_did_not_record_is_recorded_by_the_next_change(
    repository: Repository, tmp_path: Path
) -> None:
    path = repository.path / "pets" / HISTORY_FILE
    before = path.read_bytes()
    promote(repository, "pets", 2, reason="lost")
    path.write_bytes(before)
    repository.publish("pets", tmp_path / "graph.onnx", make_spec(["a", "b"]))
    missing, last = repository.history("pets")[2:]
    assert (missing.what, missing.before, missing.after, missing.who) == ("promote", 1, 2, "unknown")
    assert missing.why == "recorded by the next change: the process that made this one was killed before it could"
    assert (last.what, last.before, last.after) == ("publish", 2, 3)
    start_rollout(repository, "pets", 3, canary=0.1)
    rollback(repository, "pets")
    assert [entry.what for entry in repository.history("pets")[4:]] == ["canary", "rollback"]


@pytest.mark.parametrize(
    "change",
    [
        lambda repository: promote(repository, "pets", 2),
        lambda repository: start_rollout(repository, "pets", 2, canary=0.1),
        lambda repository: repository.remove_versions("pets", keep=0),
        lambda repository: repository.publish("pets", repository.path.parent / "graph.onnx", make_spec(["a", "b"])),
    ],
    ids=["promote", "rollout", "prune", "publish"],
)
def test_a_change_that_cannot_be_recorded_does_not_happen(
    change: Callable[[Repository], object], repository: Repository
) -> None:
    path = repository.path / "pets" / HISTORY_FILE
    path.unlink()
    path.mkdir()
    before = repository.config("pets")
    with pytest.raises(RepositoryError, match="history.jsonl cannot be read: Is a directory"):
        change(repository)
    path.rmdir()
    assert repository.version_numbers("pets") == [1, 2]
    assert repository.live_version("pets").version == 1
    assert repository.config("pets").version_policy == before.version_policy


def test_a_disk_that_is_full_leaves_no_part_of_a_line(repository: Repository) -> None:
    path = repository.path / "pets" / HISTORY_FILE
    size = path.stat().st_size
    # A limit on the size of files stands for a full disk: a write ends short of it.
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from tamiz_server.history import append_entries, make_entry\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "append_entries(Path(sys.argv[1]), [make_entry('promote', 1, 2)])\n"
    )
    command = [sys.executable, "-c", code, str(path.parent), str(size + 10)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "history.jsonl cannot be written: No space left on device" in done.stderr
    assert path.stat().st_size == size
