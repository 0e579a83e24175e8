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
    from .ports import Ports
    from .promotion import apply_settings, promote, rollback
    from .repository import ConfigChange, Repository
    from .triton import Triton
    from .verification import Finding, Verification, verify
    from .version import Version

__all__ = [
    "ConfigChange",
    "Control",
    "Finding",
    "ModelState",
    "Ports",
    "Repository",
    "ServingSettings",
    "Triton",
    "Verification",
    "Version",
    "apply_settings",
    "promote",
    "rollback",
    "verify",
]

_LAZY = {
    "ConfigChange": "repository",
    "Control": "control",
    "Finding": "verification",
    "ModelState": "control",
    "Ports": "ports",
    "Repository": "repository",
    "ServingSettings": "config",
    "Triton": "triton",
    "Verification": "verification",
    "Version": "version",
    "apply_settings": "promotion",
    "promote": "promotion",
    "rollback": "promotion",
    "verify": "verification",
}

__getattr__, __dir__ = lazy_exports(__name__, _LAZY, __all__)
