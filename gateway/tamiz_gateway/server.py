"""The server: uvicorn with one worker in this process, or with several processes that share a port and their counts."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from tamiz.arguments import check_function, check_instance
from tamiz.errors import OutputError, os_reason

from .app import create_app
from .settings import Settings

GRACE_S = 10
"""Seconds in which requests that are being handled may end when the gateway stops."""

_BACKLOG = 2_048

_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "message": {"format": "%(message)s"},
        "program": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {
        "access": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "message"},
        "program": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "program"},
    },
    "loggers": {
        "tamiz_gateway.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        "tamiz_gateway": {"handlers": ["program"], "level": "INFO", "propagate": False},
        "tamiz": {"handlers": ["program"], "level": "WARNING", "propagate": False},
        # It would say of every malformed body that it is malformed.
        "python_multipart": {"handlers": ["program"], "level": "ERROR", "propagate": False},
        "uvicorn": {"handlers": ["program"], "level": "WARNING", "propagate": False},
    },
}


def run_gateway(settings: Settings, *, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until a signal (SIGINT or SIGTERM) ends the process.

    Each request is a line of JSON on standard output; everything else goes to standard error.

    Args:
        settings: the settings.
        on_ready: called with the URL of the gateway, once its port is open.

    Raises:
        UsageError: an argument is wrong.
        OutputError: the port is in use or not permitted.
    """
    check_instance("settings", settings, Settings)
    check_function("on_ready", on_ready, "a function that takes the URL of the gateway")
    with _listen(settings) as listener, tempfile.TemporaryDirectory(prefix="tamiz-gateway-") as folder:
        if settings.workers > 1:
            settings = settings.model_copy(update={"state": Path(folder)})
            # Read by prometheus-client when a worker imports it; this process never serves.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        config = uvicorn.Config(
            partial(create_app, settings),
            factory=True,
            workers=settings.workers,
            http="auto",
            ws="none",
            lifespan="on",
            log_config=_LOGGING,
            log_level=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        on_ready(_url(settings.host, listener))
        try:
            if settings.workers > 1:
                Multiprocess(config, sockets=[listener]).run()
            else:
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as exc:
        raise OutputError(
            f"cannot listen on {settings.host} port {settings.port}: {os_reason(exc)}; choose another --port, or 0 for "
            "a free one"
        ) from exc


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"
