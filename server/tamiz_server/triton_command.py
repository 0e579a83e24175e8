"""The command line of the embedded Triton: what it serves, where, and who may change it."""

from __future__ import annotations

from tamiz.errors import RepositoryError

from .config import BACKEND
from .installation import Installation
from .ports import LOOPBACK, Ports
from .process import EXIT_TIMEOUT_S
from .repository import Repository
from .workspace import Workspace

RESTRICTED_PROTOCOLS = "model-repository,shared-memory,logging,trace"
"""Triton's protocols that need the key: those that change the server or give it access to this machine's memory."""


def triton_command(
    installation: Installation, workspace: Workspace, repository: Repository, ports: Ports, key: str
) -> list[str]:
    """The program and the arguments that serve a model repository on the loopback interface.

    Args:
        installation: the installed Triton.
        workspace: has the backends, and a link to the repository; its name is that of the server.
        repository: all models that Triton can load are loaded, whoever published them.
        ports: the ports of the services.
        key: the key that calls of `RESTRICTED_PROTOCOLS` must carry.
    """
    options = {
        "id": workspace.name,
        "model-repository": workspace.repository,
        "backend-directory": workspace.backends,
        "backend-config": f"python,shm-region-prefix-name={workspace.name}-",
        "model-control-mode": "explicit",
        "grpc-address": LOOPBACK,
        "grpc-port": ports.grpc,
        "http-address": LOOPBACK,
        "http-port": ports.http,
        "metrics-address": LOOPBACK,
        "metrics-port": ports.metrics,
        "grpc-restricted-protocol": f"{RESTRICTED_PROTOCOLS}:triton-key={key}",
        "http-restricted-api": f"{RESTRICTED_PROTOCOLS}:triton-key={key}",
        "exit-timeout-secs": EXIT_TIMEOUT_S,
        # A foreign model that cannot be loaded does not keep those of Tamiz from being served.
        "exit-on-error": "false",
        "strict-readiness": "false",
    }
    command = [str(installation.binary), *(f"--{name}={value}" for name, value in options.items())]
    # All that Triton can load, not only what `wait_until_ready` requires.
    models = repository.configured()
    # Our backend completes nothing, and a process that is asked to would double the time of every load.
    if not any(_may_complete_itself(repository, model) for model in models):
        command.append("--disable-auto-complete-config")
    return [*command, *(f"--load-model={model}" for model in models)]


def _may_complete_itself(repository: Repository, model: str) -> bool:
    try:
        return bool(repository.config(model).backend != BACKEND)
    except RepositoryError:
        # Triton cannot read it either.
        return False
