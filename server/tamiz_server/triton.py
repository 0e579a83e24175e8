"""The embedded Triton: the real ``tritonserver`` of the nvidia-pytriton wheel, on a model repository.

::

    with Triton("model_repository", grpc_port=0) as triton:
        client = tamiz.Client(triton.url, model="digits")

Run as a module it only looks whether this machine can start one: ``python -m tamiz_server.triton``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tamiz.errors import MissingExtraError, TamizError, TritonError
from tamiz.served_version import live_versions
from tamiz.transports import open_channel

from .repository import Repository

LOOPBACK = "127.0.0.1"
EXIT_TIMEOUT_S = 10
BACKENDS = Path(__file__).parent / "backends"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON}.so.1.0"
RESTRICTED = "model-repository,shared-memory,logging,trace"
"""Triton's protocols that want the key: all that change the server, or let it at memory of this machine."""


class Ports(NamedTuple):
    """Where a server listens on the loopback."""

    grpc: int
    http: int
    metrics: int


@dataclass(frozen=True)
class Installation:
    """Where the wheel keeps Triton.

    Attributes:
        binary: ``tritonserver``.
        python_backend: the folder of Triton's Python backend.
        stub: its process for the Python that runs now.
        libraries: a folder of shared libraries for the loader.
        site_packages: for the Python of the stub.
    """

    binary: Path
    python_backend: Path
    stub: Path
    libraries: Path
    site_packages: Path


def find_triton() -> Installation:
    """Find the embedded Triton.

    Raises:
        MissingExtraError: the wheel is not installed.
        TritonError: it, or this machine, lacks something; says what to install.
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
        raise TritonError(f"the nvidia-pytriton wheel has no Python backend for Python {PYTHON}; use 3.11 or 3.12")
    for path in (installation.binary, installation.python_backend, installation.libraries):
        if not path.exists():
            raise TritonError(f"the nvidia-pytriton wheel is not complete: no {path}; install it again")
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError("cpu", "onnxruntime")
    _require_libpython()
    return installation


def _require_libpython() -> None:
    # The stub links the interpreter's shared library, which a Python built without it does not have.
    if _has_libpython(_python_library_folder()):
        return
    try:
        ctypes.CDLL(LIBPYTHON)
    except OSError as exc:
        raise TritonError(
            f"{LIBPYTHON} is not on this machine, and Triton's Python backend needs it; on Debian or Ubuntu: "
            f"apt-get install {LIBPYTHON.partition('.so')[0]}"
        ) from exc


def _python_library_folder() -> Path:
    return Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")


def _has_libpython(folder: Path) -> bool:
    return (folder / LIBPYTHON).is_file()


class Triton:
    """A Triton server on this machine's loopback, as a context manager.

    It is ready, with every live version of the repository loaded, when the ``with`` block begins; it and all its
    children, and its temporary folder, are gone when the block ends. It ends also when this process is killed (where
    there is ``setpriv``); the folder of a killed process is removed by the next one that starts a server.

    Args:
        repository: the folder of a model repository.
        grpc_port: port of gRPC; 0 takes a free one.
        http_port: port of HTTP; 0 takes a free one.
        metrics_port: port of Prometheus metrics; 0 takes a free one.
        key: for the calls that change the server; a new random one where None. It stands in the command line of
            the server, which other users of the machine can see.
        log: file for what Triton says; where None it is in the temporary folder, and goes with it.
        start_timeout_s: seconds until it must be ready.

    Raises (when entered):
        MissingExtraError: Triton is not installed.
        TritonError: it does not start; the message has the reason.
        RepositoryError: there is no such repository, or a ``config.pbtxt`` in it cannot be read.
    """

    def __init__(
        self,
        repository: str | os.PathLike[str],
        *,
        grpc_port: int = 0,
        http_port: int = 0,
        metrics_port: int = 0,
        key: str | None = None,
        log: str | os.PathLike[str] | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        self.repository = Repository(repository)
        self.key = key or secrets.token_urlsafe(16)
        self.start_timeout_s = start_timeout_s
        self._asked = Ports(grpc_port, http_port, metrics_port)
        self.ports = self._asked
        self._log = Path(log) if log is not None else None
        self._folder: Path | None = None
        self._lock: int | None = None
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """For `tamiz.Client`."""
        return f"grpc://127.0.0.1:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        """Of the server's process, while it runs."""
        assert self._server is not None, "Triton is not running"
        return self._server.process.pid

    def start(self) -> None:
        """Start the server and wait until it is ready; what the ``with`` block does first."""
        assert self._server is None, "Triton is running already"
        models = self.repository.models()
        live = {model: live_versions(self.repository.config(model)) for model in models}
        installation = find_triton()
        _remove_leftovers()
        for attempt in range(3):
            self.ports = _choose_ports(self._asked)
            try:
                self._folder, self._lock = _make_folder()
                self._launch(installation, self._folder, models)
                self._wait_until_ready(live)
                return
            except _PortTaken as exc:
                # A free port that was chosen here was taken before Triton had it.
                self.stop()
                if attempt == 2 or 0 not in self._asked:
                    raise TritonError(str(exc)) from exc
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the server and all its children, and remove its folder; what the ``with`` block does last."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._folder is not None:
            _remove(self._folder)
            self._folder = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def wait(self) -> None:
        """Wait until the server ends, which it does not do by itself.

        Raises:
            TritonError: it ended; the message has the reason.
        """
        assert self._server is not None, "Triton is not running"
        status = self._server.process.wait()
        # Not a reason from its start, or from a change that it refused: it went on after those.
        raise TritonError(f"Triton ended with status {status}: {_last_line(self.log)}")

    def __enter__(self) -> Triton:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """The file with what Triton says."""
        if self._log is not None:
            return self._log
        assert self._folder is not None, "Triton is not running"
        return self._folder / "triton.log"

    def _launch(self, installation: Installation, folder: Path, models: list[str]) -> None:
        name = folder.name
        options = {
            "id": name,
            "model-repository": self.repository.path.resolve(),
            "backend-directory": _lay_out_backends(installation, folder / "backends"),
            "backend-config": f"python,shm-region-prefix-name={name}-",
            "model-control-mode": "explicit",
            "grpc-address": LOOPBACK,
            "grpc-port": self.ports.grpc,
            "http-address": LOOPBACK,
            "http-port": self.ports.http,
            "metrics-address": LOOPBACK,
            "metrics-port": self.ports.metrics,
            "grpc-restricted-protocol": f"{RESTRICTED}:triton-key={self.key}",
            "http-restricted-api": f"{RESTRICTED}:triton-key={self.key}",
            "exit-timeout-secs": EXIT_TIMEOUT_S,
        }
        command = [str(installation.binary), *(f"--{name}={value}" for name, value in options.items())]
        command += [f"--load-model={model}" for model in models]
        self._server = _Server(name, command, _environment(installation), self.log)
        try:
            self._server.start()
        except OSError as exc:
            raise TritonError(f"cannot start Triton: {exc.filename or self.log}: {exc.strerror}") from exc
        except ValueError as exc:
            raise TritonError(f"cannot start Triton: {exc}") from exc

    def _wait_until_ready(self, live: dict[str, list[int]]) -> None:
        assert self._server is not None
        deadline = time.monotonic() + self.start_timeout_s
        with open_channel(f"{LOOPBACK}:{self.ports.grpc}", _RECONNECT_FAST) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            # Another process may have a port, even another Triton: only the name tells that it is this one.
            while not (
                _server_name(stub) == self._server.name
                and self._server.name in _get(self.ports.http, "/v2")
                and "# HELP nv_" in _get(self.ports.metrics, "/metrics")
            ):
                if self._server.process.poll() is not None:
                    reason = _reason(self.log)
                    kind = _PortTaken if re.search(r"in use|failed to bind", reason, re.IGNORECASE) else TritonError
                    raise kind(f"Triton did not start: {reason}")
                if lost := _LOST_LIBRARY.search(_read(self.log)):
                    # Triton itself would go on waiting for a process of its own that could not start.
                    raise TritonError(f"Triton did not start: {lost[0]}")
                if time.monotonic() > deadline:
                    raise TritonError(
                        f"Triton was not ready within {self.start_timeout_s:g} s; its last line: {_last_line(self.log)}"
                    )
                time.sleep(0.02)
            # It opens its ports when all models are loaded; that each live version is there is asked all the same.
            for model, version in [(model, version) for model, versions in live.items() for version in versions]:
                request = service_pb2.ModelReadyRequest(name=model, version=str(version))
                try:
                    ready = stub.ModelReady(request, timeout=10).ready
                except grpc.RpcError as exc:
                    raise TritonError(f"Triton did not start: {_reason(self.log)}") from exc
                if not ready:
                    raise TritonError(f"Triton did not load model {model} version {version}: {_reason(self.log)}")


class _PortTaken(TritonError):
    """Another process has the port."""


class _Server:
    """The server's process and all that belongs to it.

    The process is made by a thread that lives as long as it does: Linux tells a child of its parent's death
    (``setpriv --pdeathsig``) when the *thread* ends that made it.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes]
        self._command = command
        self._environment = environment
        self._log = log
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, name="tamiz-triton", daemon=True)

    def start(self) -> None:
        """Start the process; what that fails with is raised. `stop` must be called also when this was interrupted."""
        self._thread.start()
        self._started.result()

    def _live(self) -> None:
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        try:
            with self._log.open("wb") as output:
                self.process = subprocess.Popen(
                    [*guard, *self._command],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException as exc:
            self._started.set_exception(exc)
            return
        self._started.set_result(None)
        self.process.wait()

    def stop(self) -> None:
        """End the process, then whatever is left of its session."""
        if self._thread.ident is None or self._started.exception() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(EXIT_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


_PREFIX = "tamiz-triton-"
"""Of the name of a server's folder, which is also the beginning of the names of its shared memory."""


def _lock(folder: Path) -> int | None:
    """Lock a server's folder for as long as this process lives; None where another holds it or it is another's."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _make_folder() -> tuple[Path, int]:
    """A server's folder, and its lock."""
    try:
        new = Path(tempfile.mkdtemp(prefix="tamiz-new-"))
        # It gets its name when it is locked, so that it never looks like a leftover.
        lock = _lock(new)
        assert lock is not None, "a name that nobody knows"
        return new.rename(new.with_name(_PREFIX + new.name.removeprefix("tamiz-new-"))), lock
    except OSError as exc:
        raise TritonError(f"cannot start Triton: {exc.filename}: {exc.strerror}") from exc


def _remove(folder: Path) -> None:
    """Remove a server's folder, and what Triton left of its shared memory."""
    for region in Path("/dev/shm").glob(f"{folder.name}-*"):  # noqa: S108
        with contextlib.suppress(OSError):
            region.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers() -> None:
    """Remove what servers left whose starter was killed before it could, and so holds no lock any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        handle = _lock(folder)
        if handle is not None:
            _remove(folder)
            os.close(handle)


def _lay_out_backends(installation: Installation, folder: Path) -> Path:
    """A backend directory as Triton wants it: the wheel's Python backend with its stub, and Tamiz's own."""
    try:
        # Copies, since Triton refuses a backend whose files are links that lead elsewhere.
        shutil.copytree(BACKENDS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        python = shutil.copytree(installation.python_backend, folder / "python")
        stub = Path(shutil.copy(installation.stub, python))
        stub.chmod(0o755)
    except OSError as exc:
        # Of `copytree` one holds the reasons of many.
        raise TritonError(f"cannot start Triton: {folder}: {exc.strerror or exc.args[0][0][2]}") from exc
    return folder


def _environment(installation: Installation) -> dict[str, str]:
    environment = dict(os.environ)
    # The stub's interpreter is the one that runs here, where that one is a shared library.
    libraries = [_python_library_folder(), installation.libraries, environment.get("LD_LIBRARY_PATH")]
    environment["LD_LIBRARY_PATH"] = ":".join(str(folder) for folder in libraries if folder)
    environment["PYTHONPATH"] = str(installation.site_packages)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


def _choose_ports(asked: Ports) -> Ports:
    """The ports asked for, each found free, and free ones where 0 was asked."""
    with contextlib.ExitStack() as stack:
        chosen = []
        for name, port in asked._asdict().items():
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except (OSError, OverflowError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else str(exc)
                raise TritonError(f"port {port} for {name}: {reason}; give another, or 0 for a free one") from exc
            chosen.append(listener.getsockname()[1])
        return Ports(*chosen)


_RECONNECT_FAST = [(f"grpc.{which}_reconnect_backoff_ms", 50) for which in ("initial", "min", "max")]


def _server_name(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> str | None:
    """What the server at the other end calls itself; None where there is no Triton, or not yet."""
    try:
        return str(stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=1).name)
    except grpc.RpcError:
        return None


def _get(port: int, path: str) -> str:
    """What answers to HTTP on the loopback; nothing where nothing does, or not yet."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _reason(log: Path) -> str:
    """Why Triton ended, in one line of its log."""
    text = _read(log)
    found = next((found for pattern in _REASONS if (found := pattern.search(text))), None)
    return found[0].strip() if found else _last_line(log)


_LOST_LIBRARY = re.compile(r"error while loading shared libraries: .*")
_REASONS = (
    # The first that is found tells most.
    _LOST_LIBRARY,
    re.compile(r"failed to load '.*' version \d+: .*"),
    re.compile(r".*Address already in use.*"),
    re.compile(r"(?<=\] \").*already in use"),
    re.compile(r"(?<=creating server: ).*"),
    re.compile(r"(?<=\] \").*[Ff]ailed.*(?=\")"),
)


def _last_line(log: Path) -> str:
    lines = _read(log).strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


if __name__ == "__main__":
    try:
        find_triton()
    except TamizError as exc:
        sys.exit(f"error: {exc}")
