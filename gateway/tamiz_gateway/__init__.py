"""A REST service in front of Triton: the published document classifier's contract, and a versioned one beside it.

::

    import os

    from tamiz_gateway import load_settings, run_gateway

    run_gateway(load_settings(os.environ, model="digits"))

It has no serving logic of its own: images are classified by `tamiz.AsyncClient`, and versions are listed and promoted
through `tamiz_server`. Modules are loaded when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .app import create_app
    from .server import run_gateway
    from .settings import Settings, load_settings
    from .training_settings import TrainingSettings

__all__ = ["Settings", "TrainingSettings", "create_app", "load_settings", "run_gateway"]

_LAZY = {
    "Settings": "settings",
    "TrainingSettings": "training_settings",
    "create_app": "app",
    "load_settings": "settings",
    "run_gateway": "server",
}

__getattr__, __dir__ = lazy_exports(__name__, _LAZY, __all__)
