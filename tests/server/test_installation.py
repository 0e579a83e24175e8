from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tamiz import TritonError
from tamiz_server import installation
from tamiz_server.installation import find_installation


def test_the_installation_check_succeeds_on_this_machine() -> None:
    done = subprocess.run([sys.executable, "-m", "tamiz_server.installation"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_libpython_is_an_error_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "LIBPYTHON", "libpython3.99.so.1.0")
    with pytest.raises(TritonError, match=r"apt-get install libpython3\.99"):
        find_installation()


def test_the_backend_folder_holds_the_python_backend_and_the_backends_of_tamiz(tmp_path: Path) -> None:
    folder = find_installation().copy_backends(tmp_path / "backends")
    assert {entry.name for entry in folder.iterdir()} == {"onnxruntime", "python"}
    assert (folder / "onnxruntime" / "model.py").is_file()
    assert (folder / "python" / "triton_python_backend_stub").stat().st_mode & 0o777 == 0o755


def test_a_backend_folder_that_cannot_be_created_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TritonError, match="cannot start Triton: .*: File exists"):
        find_installation().copy_backends(tmp_path)


@pytest.mark.parametrize("separator", [";", ":"])
def test_a_folder_that_the_dynamic_loader_would_split_is_an_error_with_its_path(separator: str) -> None:
    libraries = Path(f"/my{separator}project/site-packages/nvidia_pytriton.libs")
    with pytest.raises(TritonError, match=f"{libraries}: .* separators; install Tamiz in a folder without them"):
        replace(find_installation(), libraries=libraries).environment()
