from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tamiz_server.python_environments import remove_stale_python_environments


@contextmanager
def environment(*, age_s: float = 0) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="python_env_", dir="/tmp"))
    os.utime(folder, (time.time() - age_s,) * 2)
    yield folder
    if folder.exists():
        folder.rmdir()


@pytest.fixture
def backend_loaded(tmp_path: Path) -> Iterator[None]:
    """This process counts as a server, because it has mapped a file with the name of the Python backend."""
    library = tmp_path / "libtriton_python.so"
    library.write_bytes(b"library")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        yield


def test_the_folder_of_a_server_that_may_be_running_is_kept(backend_loaded: None) -> None:
    age_s = time.time() - psutil.Process().create_time()
    with environment() as recent, environment(age_s=age_s + 5) as inexact_clock:
        remove_stale_python_environments()
        assert recent.exists()
        assert inexact_clock.exists()


def test_a_folder_that_is_older_than_every_running_server_is_removed(backend_loaded: None) -> None:
    with environment(age_s=30 * 86400) as stale:
        remove_stale_python_environments()
        assert not stale.exists()


def test_a_folder_that_is_not_empty_is_kept() -> None:
    with environment(age_s=30 * 86400) as folder:
        (folder / "file").touch()
        os.utime(folder, (0, 0))
        remove_stale_python_environments()
        assert (folder / "file").exists()
        (folder / "file").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_folder_of_another_user_is_kept() -> None:
    with environment(age_s=30 * 86400) as folder:
        os.chown(folder, 1234, -1)
        remove_stale_python_environments()
        assert folder.exists()
