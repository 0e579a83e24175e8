from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tamiz import TritonError
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


def test_a_folder_for_temporary_files_that_does_not_exist_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "missing"))
    with pytest.raises(TritonError, match="cannot start Triton: .*missing.*: No such file or directory"):
        create_workspace()
