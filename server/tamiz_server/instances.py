"""The instances of the models that a server runs, each in a stub process of Triton's Python backend.

Triton 2.51 does not restart an instance whose stub process died (triton-inference-server/server#7862 and #8604): the
requests that it gives to it fail.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tamiz.errors import TamizError

from .config import ModelConfig
from .control import Control
from .repository import CONFIG_FILE, Repository

_PROCESSES = Path("/proc")
_STUB = "triton_python_backend_stub"
_LOADED_AGAIN = "tamiz_loaded_again"


class Instance(NamedTuple):
    """An instance of a version of a model.

    Attributes:
        file: the version's graph, or its ``model.py``, in the model repository.
        name: name of the instance, unique within the version.
    """

    file: Path
    name: str

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.file.parent.parent.name

    @property
    def version(self) -> int:
        """Number of the version."""
        return int(self.file.parent.name)


class Instances:
    """The instances of one running server.

    Args:
        pid: process ID of the server.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known: dict[int, Instance] = {}

    def running(self) -> set[Instance]:
        """The instances whose stub process runs; costs some milliseconds, since Triton has a hundred threads."""
        known = self._known
        self._known = {}
        for pid in self._children():
            instance = known.get(pid) or _read_instance(pid)
            if instance is not None and self._runs(pid):
                self._known[pid] = instance
        return set(self._known.values())

    def still_run(self) -> bool:
        """Whether all instances that `running` found still run; costs much less."""
        return all(map(self._runs, self._known))

    def _runs(self, pid: int) -> bool:
        try:
            state, parent = (_PROCESSES / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:
            return False
        return state != "Z" and int(parent) == self._pid

    def _children(self) -> list[int]:
        children: list[int] = []
        # The server and its threads may end at any moment.
        with suppress(OSError):
            for thread in (_PROCESSES / str(self._pid) / "task").iterdir():
                with suppress(OSError):
                    children += map(int, (thread / "children").read_text().split())
        return children


def _read_instance(pid: int) -> Instance | None:
    """Read which instance a process is the stub of, from its arguments; None if it is not a stub, or not one yet."""
    try:
        arguments = [
            os.fsdecode(argument) for argument in (_PROCESSES / str(pid) / "cmdline").read_bytes().split(b"\0")
        ]
    except OSError:
        return None
    if Path(arguments[0]).name != _STUB or len(arguments) < 9:
        return None
    return Instance(Path(arguments[1]), arguments[8])


def missing_instances(lost: set[Instance], running: set[Instance], control: Control) -> set[Instance]:
    """Those of the lost instances that the server should still run, because it serves their version.

    An instance also ends when its version is unloaded, or when the model is given fewer instances.

    Args:
        lost: instances that ended.
        running: instances that run.
        control: connection to the server.

    Raises:
        ServerError: the server cannot be reached.
    """
    ready = {(state.model, state.version) for state in control.models() if state.state == "READY"}
    counts = Counter((instance.model, instance.version) for instance in running)
    missing = set()
    for instance in lost - running:
        version = (instance.model, instance.version)
        if version in ready and counts[version] < _configured_count(instance.model, control):
            missing.add(instance)
    return missing


def _configured_count(model: str, control: Control) -> int:
    return sum(group.count * max(1, len(group.gpus)) for group in control.config(model).instance_group)


def bring_back(instance: Instance, control: Control) -> str | None:
    """Have the server load a model again, all instances of it, while the instances that it has keep serving.

    Triton loads a model again only if its files or its configuration changed. The repository may be read-only, so the
    change is a parameter of the configuration that is sent with the request.

    Returns:
        why it was not possible; None on success.
    """
    try:
        config = _config_on_disk(instance) or control.config(instance.model)
        config.parameters[_LOADED_AGAIN].string_value = datetime.now(UTC).isoformat()
        control.load(instance.model, config)
    except TamizError as exc:
        return str(exc)
    return None


def _config_on_disk(instance: Instance) -> ModelConfig | None:
    # Not the configuration that the server has: it would hide a change on disk from the next load.
    folder = instance.file.parents[1]
    return Repository(folder.parent).config(folder.name) if (folder / CONFIG_FILE).is_file() else None
