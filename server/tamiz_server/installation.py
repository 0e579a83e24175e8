"""The Triton that the nvidia-pytriton wheel installs.

``python -m tamiz_server.installation`` checks whether this machine can start it: it prints nothing and exits 0, or
prints one line that says what to install and exits 1.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tamiz.errors import MissingExtraError, TamizError, TritonError

BACKENDS = Path(__file__).parent / "backends"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON}.so.1.0"
LIBPYTHON_FOLDER = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")


@dataclass(frozen=True)
class Installation:
    """Paths of an installed Triton.

    Attributes:
        binary: the server's executable, ``tritonserver``.
        python_backend: folder of Triton's Python backend.
        stub: executable of the Python backend that runs models in the Python version of this process.
        libraries: folder of shared libraries that the executables need.
        site_packages: folder of Python packages that the models import.
    """

    binary: Path
    python_backend: Path
    stub: Path
    libraries: Path
    site_packages: Path

    def environment(self) -> dict[str, str]:
        """Environment variables of the server's process: those of this process, with the paths of the installation.

        Raises:
            TritonError: a path of the installation contains a separator of paths.
        """
        environment = dict(os.environ)
        for folder in (LIBPYTHON_FOLDER, self.libraries):
            if set(":;") & set(str(folder)):
                raise TritonError(
                    f"cannot start Triton: {folder}: the dynamic loader takes ':' and ';' for separators; install "
                    "Tamiz in a folder without them"
                )
        # The stub runs the interpreter of this process, if that interpreter comes with a shared library.
        libraries = [LIBPYTHON_FOLDER, self.libraries, environment.get("LD_LIBRARY_PATH")]
        environment["LD_LIBRARY_PATH"] = ":".join(str(folder) for folder in libraries if folder)
        environment["PYTHONPATH"] = str(self.site_packages)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        return environment

    def copy_backends(self, folder: Path) -> Path:
        """Create a backend folder for Triton: the Python backend with its stub, and the backends of Tamiz.

        Args:
            folder: the folder to create; it must not exist.

        Returns:
            the folder.

        Raises:
            TritonError: a file cannot be copied.
        """
        try:
            # Copies, because Triton rejects a backend whose files are links to another folder.
            shutil.copytree(BACKENDS, folder, ignore=shutil.ignore_patterns("__pycache__"))
            python = shutil.copytree(self.python_backend, folder / "python")
            stub = Path(shutil.copy(self.stub, python))
            stub.chmod(0o755)
        except OSError as exc:
            # An error of copytree has no strerror: it holds a list of (source, target, reason).
            raise TritonError(f"cannot start Triton: {folder}: {exc.strerror or exc.args[0][0][2]}") from exc
        return folder


def find_installation() -> Installation:
    """Find the installed Triton and check that this machine can start it.

    Raises:
        MissingExtraError: nvidia-pytriton or onnxruntime is not installed.
        TritonError: the installation is incomplete, or a library is missing; the message says what to install.
    """
    found = importlib.util.find_spec("pytriton")
    if found is None or found.origin is None:
        raise MissingExtraError("server", "nvidia-pytriton")
    package = Path(found.origin).parent
    installation = Installation(
        binary=package / "tritonserver" / "bin" / "tritonserver",
        python_backend=package / "tritonserver" / "backends" / "python",
        stub=package / "tritonserver" / "python_backend_stubs" / PYTHON / "triton_python_backend_stub",
        libraries=package.parent / "nvidia_pytriton.libs",
        site_packages=package.parent,
    )
    if not installation.stub.is_file():
        raise TritonError(
            f"the nvidia-pytriton wheel has no Python backend for Python {PYTHON}; use Python 3.11 or 3.12"
        )
    for path in (installation.binary, installation.python_backend, installation.libraries):
        if not path.exists():
            raise TritonError(f"the nvidia-pytriton wheel is incomplete: no {path}; install the wheel again")
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError("cpu", "onnxruntime")
    _require_libpython()
    return installation


def _require_libpython() -> None:
    # The stub links the interpreter's shared library. A Python that was built without one needs it from the system.
    if (LIBPYTHON_FOLDER / LIBPYTHON).is_file():
        return
    try:
        ctypes.CDLL(LIBPYTHON)
    except OSError as exc:
        raise TritonError(
            f"{LIBPYTHON} is not installed, and Triton's Python backend needs it; on Debian or Ubuntu: "
            f"apt-get install {LIBPYTHON.partition('.so')[0]}"
        ) from exc


if __name__ == "__main__":
    try:
        find_installation()
    except TamizError as exc:
        sys.exit(f"error: {exc}")
