from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tamiz import TritonError
from tamiz.locks import open_locked
from tamiz_server.workspace import create_workspace, remove_abandoned_workspaces


def test_a_workspace_is_removed_with_its_shared_memory() -> None:
    workspace = create_workspace()
    (workspace.folder / "file").write_text("content")
    region = Path("/dev/shm") / f"{workspace.name}-region"
    region.write_text("pixels")
    workspace.remove()
    assert not workspace.folder.exists()
    assert not region.exists()


def test_only_the_workspaces_of_processes_that_ended_are_abandoned() -> None:
    code = "from tamiz_server.workspace import create_workspace; print(create_workspace().folder)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    abandoned = Path(done.stdout.strip())
    workspace = create_workspace()
    assert abandoned.is_dir()
    remove_abandoned_workspaces()
    assert not abandoned.exists()
    assert workspace.folder.is_dir()
    workspace.remove()


def test_a_temporary_directory_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "missing"))
    with pytest.raises(TritonError, match="cannot start Triton: .*missing.*: No such file or directory"):
        create_workspace()


def test_an_error_without_a_path_is_reported_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(TritonError, match=r"^cannot start Triton: Operation not supported$"):
        create_workspace()


def test_a_folder_that_was_never_locked_is_removed_when_it_is_older_than_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    old, recent, locked = (tmp_path / f"tamiz-new-{name}" for name in ("old", "recent", "locked"))
    for folder in (old, recent, locked):
        folder.mkdir()
    two_minutes_ago = time.time() - 120
    for folder in (old, locked):
        os.utime(folder, (two_minutes_ago, two_minutes_ago))
    descriptor = open_locked(locked)
    assert descriptor is not None
    remove_abandoned_workspaces()
    assert [folder.exists() for folder in (old, recent, locked)] == [False, True, True]
    os.close(descriptor)


@pytest.mark.parametrize(
    "name", ["sp ace", "(a)", "quote'", "line\nend", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "a\udcff"]
)
def test_a_temporary_directory_with_any_name_gives_a_plain_path_and_is_swept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / name
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(temporary))
    workspace = create_workspace()
    assert re.fullmatch(r"[a-z0-9_/-]+", os.fspath(workspace.folder))
    os.close(workspace.lock_descriptor)
    remove_abandoned_workspaces()
    assert not workspace.folder.exists()


def test_a_linked_folder_has_a_path_in_the_workspace_and_outlives_it(tmp_path: Path) -> None:
    target = tmp_path / "sp ace"
    target.mkdir()
    (target / "file").write_text("content")
    workspace = create_workspace()
    workspace.link_repository(target)
    link = workspace.repository
    assert link.parent == workspace.folder
    assert (link / "file").read_text() == "content"
    workspace.remove()
    assert not link.is_symlink()
    assert (target / "file").read_text() == "content"


def test_the_folder_of_a_killed_python_backend_is_removed_with_the_workspace() -> None:
    workspace, environment = create_workspace(), Path(tempfile.mkdtemp(prefix="python_env_", dir="/tmp"))
    # Older than any server that runs on this machine meanwhile.
    os.utime(environment, (0, 0))
    workspace.remove()
    assert not environment.exists()
