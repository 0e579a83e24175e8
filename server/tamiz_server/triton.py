"""The embedded Triton: the real ``tritonserver`` of the nvidia-pytriton wheel, serving a model repository.

::

    with Triton("model_repository", grpc_port=0) as triton:
        client = tamiz.Client(triton.url, model="digits")
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tamiz.arguments import check_path, check_progress, check_seconds, check_whole
from tamiz.errors import ServerError, TritonError, UsageError, os_reason
from tamiz.served_version import loaded_versions
from tamiz.transports import check_key

from .control import Control
from .installation import Installation, find_installation
from .log import last_line, mark_restart
from .ports import LOOPBACK, PortInUseError, Ports, choose_ports
from .process import ServerProcess
from .readiness import wait_until_ready
from .repository import Repository
from .supervisor import RESTARTS, RestartLimit, Supervisor
from .triton_command import triton_command
from .workspace import Workspace, create_workspace, remove_abandoned_workspaces

logger = logging.getLogger("tamiz")

_START_ATTEMPTS = 3
_NOT_RUNNING = "Triton is not running: call start(), or enter its with block"


class Triton:
    """A Triton server on this machine's loopback interface; a context manager.

    The ``with`` block begins when the server is ready and every live version of the repository is loaded. A server that
    crashes is started again with the same ports and the same key, and an instance whose process died is brought back.
    A server that crashes too often is given up: `wait` and `pid` raise `TritonError` with the reason, and so does the
    block if it ends with a `tamiz.errors.ServerError`.
    When the block ends, the server, its children and its temporary files are removed. The server also ends when this
    process is killed, if the program ``setpriv`` is installed; the next server that starts removes the temporary files.

    Args:
        repository: folder of the model repository.
        grpc_port: port of the gRPC service; 0 chooses a free one.
        http_port: port of the HTTP service; 0 chooses a free one.
        metrics_port: port of the Prometheus metrics; 0 chooses a free one.
        key: key that calls must carry to change the server; None creates a random one. It is an argument of the
            server's process, so other users of this machine can see it.
        log: file for Triton's log, which is overwritten; None keeps the log with the temporary files.
        start_timeout_s: seconds within which the server must be ready.
        restarts: how often within ten minutes a server that crashed is started again.
        on_progress: called with one line of text when the server crashed or was restarted, or an instance died; None
            logs the line as a warning of the logger ``tamiz``.

    Attributes:
        repository: the model repository.
        key: the key.
        ports: ports of the server; before the start, the requested ones.
        start_timeout_s: seconds within which the server must be ready.

    Raises:
        UsageError: an argument is wrong.
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
        restarts: int = RESTARTS,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        check_path("repository", repository, "the folder of a model repository")
        for name, port in (("grpc_port", grpc_port), ("http_port", http_port), ("metrics_port", metrics_port)):
            check_whole(name, port, least=0, most=65_535)
        if key is not None:
            check_key(key)
        if log is not None:
            check_path("log", log, "the path of a file")
        check_seconds("start_timeout_s", start_timeout_s)
        check_whole("restarts", restarts, least=0)
        if on_progress is not None:
            check_progress(on_progress)
        self.repository = Repository(repository)
        self.key = key or secrets.token_urlsafe(16)
        self.start_timeout_s = start_timeout_s
        self._requested_ports = Ports(grpc_port, http_port, metrics_port)
        self.ports = self._requested_ports
        self._log = Path(log) if log is not None else None
        self._workspace: Workspace | None = None
        self._process: ServerProcess | None = None
        self._restarts = restarts
        self._on_progress = on_progress or logger.warning
        self._supervisor: Supervisor | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Triton:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = self._supervisor.failure if self._supervisor is not None else None
        self.stop()
        # A server that is given up explains why it did not answer.
        if failure is not None and isinstance(exc, ServerError):
            raise failure from exc

    def start(self) -> None:
        """Start the server and wait until it is ready; the ``with`` block begins with this.

        Raises:
            UsageError: the server is running already.
            MissingExtraError: Triton or ONNX Runtime is not installed.
            RepositoryError: the repository does not exist, or a configuration in it cannot be read.
            TritonError: a port is in use, or the server did not start; the message has the reason.
        """
        if self._workspace is not None:
            raise UsageError("Triton is running already: call stop() before start()")
        live = self._loaded_versions()
        installation = find_installation()
        remove_abandoned_workspaces()
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.ports = choose_ports(self._requested_ports)
            try:
                self._workspace = self._prepare_workspace(installation)
                process = self._launch(installation, live, self._workspace)
                self._supervise(process, installation, self._workspace)
                return
            except PortInUseError:
                self._clear()
                # Another process was faster. Choosing again helps only if a port was chosen here.
                if attempt == _START_ATTEMPTS or 0 not in self._requested_ports:
                    raise
            except BaseException:
                self._clear()
                raise

    def _loaded_versions(self) -> dict[str, list[int]]:
        return {model: loaded_versions(self.repository.config(model)) for model in self.repository.models()}

    def _prepare_workspace(self, installation: Installation) -> Workspace:
        workspace = create_workspace()
        try:
            installation.copy_backends(workspace.backends)
            workspace.link_repository(self.repository.path)
        except BaseException:
            workspace.remove()
            raise
        return workspace

    def _launch(self, installation: Installation, live: dict[str, list[int]], workspace: Workspace) -> ServerProcess:
        """Start the server's process and wait until it is ready; the caller kills it on failure."""
        command = triton_command(installation, workspace, self.repository, self.ports, self.key)
        again = self._process is not None
        # Not the current folder: the Python processes of Triton import the files that are there.
        process = ServerProcess(command, installation.environment(), self.log, append=again, folder=workspace.folder)
        try:
            with self._lock:
                # A process that is started after stop() would never end.
                if again and self._supervisor is None:
                    raise TritonError("Triton was stopped")
                self._process = process
                process.start()
            wait_until_ready(workspace.name, self.ports, process, self.log, live, timeout_s=self.start_timeout_s)
        except OSError as exc:
            raise TritonError(f"cannot start Triton: {exc.filename or self.log}: {os_reason(exc)}") from exc
        except ValueError as exc:
            raise TritonError(f"cannot start Triton: {exc}") from exc
        return process

    def _supervise(self, process: ServerProcess, installation: Installation, workspace: Workspace) -> None:
        def restart() -> ServerProcess:
            # The stubs of a process that crashed may still run, and hold its ports.
            if self._process is not None:
                self._process.kill()
            workspace.remove_traces()
            try:
                mark_restart(self.log)
            except OSError as exc:
                raise TritonError(f"cannot restart Triton: {self.log}: {os_reason(exc)}") from exc
            # Versions may have been promoted since the last start.
            return self._launch(installation, self._loaded_versions(), workspace)

        self._supervisor = Supervisor(
            process,
            restart=restart,
            connect=lambda: Control(self.url, self.key),
            last_words=lambda: last_line(self.log) + (f"; see {self._log}" if self._log else ""),
            on_progress=self._on_progress,
            limit=RestartLimit(self._restarts),
        )
        self._supervisor.start()

    def stop(self) -> None:
        """Stop the server and its children, and remove its temporary files; the ``with`` block ends with this."""
        with self._lock:
            supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.begin_stop()
        if self._process is not None:
            # A server that is being restarted has no requests to finish.
            if supervisor is not None and supervisor.restarting:
                self._process.kill()
            self._process.stop()
        if supervisor is not None:
            supervisor.join()
        self._process = None
        if self._workspace is not None:
            self._workspace.remove()
            self._workspace = None

    def _clear(self) -> None:
        """Kill a server that did not start, which has no requests to finish."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def wait(self) -> None:
        """Wait until the server is given up, because it crashed too often, or until another thread stops it.

        Raises:
            UsageError: the server is not running.
            TritonError: the server is given up; the message has its exit status and the last line of its log.
        """
        if self._supervisor is None:
            raise UsageError(_NOT_RUNNING)
        self._supervisor.wait()

    @property
    def url(self) -> str:
        """URL of the server, as `tamiz.Client` and `Control` take it."""
        return f"grpc://{LOOPBACK}:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        """Process ID of the server, which changes when it is restarted.

        Raises:
            UsageError: the server is not running.
            TritonError: the server is given up, because it crashed too often.
        """
        return self._running_process().pid

    def _running_process(self) -> ServerProcess:
        if self._process is None:
            raise UsageError(_NOT_RUNNING)
        if self._supervisor is not None and self._supervisor.failure is not None:
            raise self._supervisor.failure
        return self._process

    @property
    def log(self) -> Path:
        """File of Triton's log.

        Raises:
            UsageError: the log is kept with the temporary files, and the server is not running.
        """
        if self._log is not None:
            return self._log
        if self._workspace is None:
            raise UsageError("Triton is not running, and its log was kept with its temporary files: give a log file")
        return self._workspace.folder / "triton.log"
