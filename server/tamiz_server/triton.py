"""The embedded Triton: the real ``tritonserver`` of the nvidia-pytriton wheel, serving a model repository.

::

    with Triton("model_repository", grpc_port=0) as triton:
        client = tamiz.Client(triton.url, model="digits")
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType

from tamiz.errors import TritonError, UsageError, os_reason
from tamiz.served_version import live_versions

from .installation import Installation, find_installation
from .log import last_line
from .ports import LOOPBACK, PortInUseError, Ports, choose_ports
from .process import EXIT_TIMEOUT_S, ServerProcess
from .readiness import wait_until_ready
from .repository import Repository
from .workspace import Workspace, create_workspace, python_environments, remove_abandoned_workspaces

RESTRICTED_PROTOCOLS = "model-repository,shared-memory,logging,trace"
"""Triton's protocols that need the key: those that change the server or give it access to this machine's memory."""

_START_ATTEMPTS = 3


class Triton:
    """A Triton server on this machine's loopback interface; a context manager.

    The ``with`` block begins when the server is ready and every live version of the repository is loaded. When the
    block ends, the server, its children and its temporary files are removed. The server also ends when this process is
    killed, if the program ``setpriv`` is installed; the next server that starts removes the temporary files.

    Args:
        repository: folder of the model repository.
        grpc_port: port of the gRPC service; 0 chooses a free one.
        http_port: port of the HTTP service; 0 chooses a free one.
        metrics_port: port of the Prometheus metrics; 0 chooses a free one.
        key: key that calls must carry to change the server; None creates a random one. It is an argument of the
            server's process, so other users of this machine can see it.
        log: file for Triton's log, which is overwritten; None keeps the log with the temporary files.
        start_timeout_s: seconds within which the server must be ready.

    Attributes:
        repository: the model repository.
        key: the key.
        ports: ports of the server; before the start, the requested ones.
        start_timeout_s: seconds within which the server must be ready.
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
        self._requested_ports = Ports(grpc_port, http_port, metrics_port)
        self.ports = self._requested_ports
        self._log = Path(log) if log is not None else None
        self._workspace: Workspace | None = None
        self._process: ServerProcess | None = None

    def __enter__(self) -> Triton:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it is ready; the ``with`` block begins with this.

        Raises:
            UsageError: the server is running already.
            MissingExtraError: Triton or ONNX Runtime is not installed.
            RepositoryError: the repository does not exist, or a configuration in it cannot be read.
            TritonError: a port is in use, or the server did not start; the message has the reason.
        """
        if self._process is not None:
            raise UsageError("Triton is running already: call stop() before start()")
        models = self.repository.models()
        live = {model: live_versions(self.repository.config(model)) for model in models}
        installation = find_installation()
        remove_abandoned_workspaces()
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.ports = choose_ports(self._requested_ports)
            try:
                self._launch(installation, live)
                return
            except PortInUseError:
                self._clear()
                # Another process was faster. Choosing again helps only if a port was chosen here.
                if attempt == _START_ATTEMPTS or 0 not in self._requested_ports:
                    raise
            except BaseException:
                self._clear()
                raise

    def _launch(self, installation: Installation, live: dict[str, list[int]]) -> None:
        self._workspace = create_workspace()
        environments = python_environments()
        command = self._command(installation, self._workspace, list(live))
        self._process = ServerProcess(command, installation.environment(), self.log)
        try:
            self._process.start()
        except OSError as exc:
            raise TritonError(f"cannot start Triton: {exc.filename or self.log}: {os_reason(exc)}") from exc
        except ValueError as exc:
            raise TritonError(f"cannot start Triton: {exc}") from exc
        try:
            wait_until_ready(
                self._workspace.name, self.ports, self._process, self.log, live, timeout_s=self.start_timeout_s
            )
        finally:
            self._workspace.claim_python_environment(environments)

    def _command(self, installation: Installation, workspace: Workspace, models: list[str]) -> list[str]:
        options = {
            "id": workspace.name,
            "model-repository": workspace.link(self.repository.path),
            "backend-directory": installation.copy_backends(workspace.folder / "backends"),
            "backend-config": f"python,shm-region-prefix-name={workspace.name}-",
            "model-control-mode": "explicit",
            "grpc-address": LOOPBACK,
            "grpc-port": self.ports.grpc,
            "http-address": LOOPBACK,
            "http-port": self.ports.http,
            "metrics-address": LOOPBACK,
            "metrics-port": self.ports.metrics,
            "grpc-restricted-protocol": f"{RESTRICTED_PROTOCOLS}:triton-key={self.key}",
            "http-restricted-api": f"{RESTRICTED_PROTOCOLS}:triton-key={self.key}",
            "exit-timeout-secs": EXIT_TIMEOUT_S,
        }
        command = [str(installation.binary), *(f"--{name}={value}" for name, value in options.items())]
        return [*command, *(f"--load-model={model}" for model in models)]

    def stop(self) -> None:
        """Stop the server and its children, and remove its temporary files; the ``with`` block ends with this."""
        if self._process is not None:
            self._process.stop()
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
        """Wait until the server ends by itself, which is always a failure.

        Raises:
            UsageError: the server is not running.
            TritonError: the server ended; the message has its exit status and the last line of its log.
        """
        status = self._running_process().wait()
        # The last line, not the failure reason: the log may hold reasons of earlier failures, such as a rejected model.
        raise TritonError(f"Triton ended with status {status}: {last_line(self.log)}")

    @property
    def url(self) -> str:
        """URL of the server, as `tamiz.Client` and `Control` take it."""
        return f"grpc://{LOOPBACK}:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        """Process ID of the server.

        Raises:
            UsageError: the server is not running.
        """
        return self._running_process().pid

    def _running_process(self) -> ServerProcess:
        if self._process is None:
            raise UsageError("Triton is not running: call start(), or enter its with block")
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
