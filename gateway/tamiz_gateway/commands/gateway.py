"""``tamiz gateway``: serve a REST service in front of Triton."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from tamiz.console import progress_line
from tamiz.errors import UsageError
from tamiz.interruption import interrupted_by
from tamiz.options import KeyOption
from tamiz_server import Triton

from ..server import run_gateway
from ..settings import load_settings


def gateway(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model that /classify uses and whose versions are listed and promoted; default: the only one of the "
            "repository. [env var: TAMIZ_GATEWAY_MODEL]",
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Start the embedded Triton as well, on free ports, for this repository.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="URL of the server, or of several: grpc://host:port,host:port; default: grpc://localhost:8001. "
            "[env var: TAMIZ_GATEWAY_URL]",
        ),
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option(
            "--repository",
            help="Folder of the model repository; default: model_repository. [env var: MODEL_SAVE_DIR]",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; default: 127.0.0.1. Beyond this machine, callers need a key. "
            "[env var: ML_CLASSIFIER_HOST]"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on, 0 chooses a free one; default: 8003. [env var: ML_CLASSIFIER_PORT]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes; default: 1. [env var: ML_CLASSIFIER_WORKERS]")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Serve REST in front of Triton: classify images, list, promote and watch versions, until Ctrl-C.

    Keys of callers and limits are environment variables; the guide of the gateway lists them. Each request is logged as
    a line of JSON on standard output.
    """
    if serve and url is not None:
        raise UsageError("--serve starts a Triton of its own, and --url names another one; give one of them")
    settings = load_settings(
        os.environ,
        model=model,
        url=url,
        repository=repository,
        host=host,
        port=port,
        workers=workers,
        triton_key=key,
    )
    try:
        with interrupted_by(signal.SIGINT, signal.SIGTERM, signal.SIGHUP), ExitStack() as stack:
            if serve:
                given = settings.triton_key.get_secret_value() if settings.triton_key else None
                triton = stack.enter_context(Triton(settings.repository, key=given, on_progress=progress_line))
                settings = settings.model_copy(update={"url": triton.url, "triton_key": SecretStr(triton.key)})
                progress_line(f"Triton {triton.url}")
            run_gateway(settings, on_ready=lambda address: progress_line(f"gateway {address}, model {settings.model}"))
    except KeyboardInterrupt:
        pass
    progress_line("stopped")
