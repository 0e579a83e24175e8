"""Serve models with NVIDIA Triton: a model repository on disk, the embedded server, and control of a running one.

::

    from tamiz import ModelSpec
    from tamiz_server import Control, Repository, Triton, promote

    repository = Repository("model_repository")
    version = repository.publish("digits", "model.onnx", spec)
    with Triton(repository.path) as triton, Control(triton.url, triton.key) as control:
        promote(repository, "digits", version, control=control)

Modules are loaded when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from tamiz.transports.requests import ModelState

    from .config import ServingSettings
    from .control import Control
    from .history import HistoryEntry
    from .ports import Ports
    from .promotion import apply_settings, promote, rollback
    from .pruning import prune
    from .repository import ConfigChange, Repository
    from .rollout import start_rollout
    from .states import State
    from .triton import Triton
    from .verification import Finding, Verification, verify
    from .version import Version

__all__ = [
    "ConfigChange",
    "Control",
    "Finding",
    "HistoryEntry",
    "ModelState",
    "Ports",
    "Repository",
    "ServingSettings",
    "State",
    "Triton",
    "Verification",
    "Version",
    "apply_settings",
    "promote",
    "prune",
    "rollback",
    "start_rollout",
    "verify",
]

_LAZY = {
    "ConfigChange": "repository",
    "Control": "control",
    "Finding": "verification",
    "HistoryEntry": "history",
    "ModelState": "control",
    "Ports": "ports",
    "Repository": "repository",
    "ServingSettings": "config",
    "State": "states",
    "Triton": "triton",
    "Verification": "verification",
    "Version": "version",
    "apply_settings": "promotion",
    "promote": "promotion",
    "prune": "pruning",
    "rollback": "promotion",
    "start_rollout": "rollout",
    "verify": "verification",
}

__getattr__, __dir__ = lazy_exports(__name__, _LAZY, __all__)
