"""``tamiz serve``: serve a model repository with the embedded Triton."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tamiz.console import print_next, progress_line
from tamiz.interruption import interrupted_by
from tamiz.options import DEFAULT_REPOSITORY, RepositoryOption, name_repository
from tamiz.served_version import live_versions

from ..control import Control
from ..log import load_failure
from ..repository import Repository
from ..triton import Triton
from ..triton_faults import setting_warnings


def serve(
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of gRPC; 0 chooses a free one.")] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of HTTP; 0 chooses a free one.")] = 8000,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the Prometheus metrics; 0 chooses a free one.")
    ] = 8002,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="TAMIZ_KEY", help="Key that promote, rollback and publish must give; default: a random one, printed."
        ),
    ] = None,
    log: Annotated[Path, typer.Option(help="File for Triton's log, which is overwritten.")] = Path("triton.log"),
) -> None:
    """Serve a model repository with the embedded Triton, on this machine's loopback interface, until Ctrl-C.

    If Triton crashes, it is started again with the same ports and the same key, at most five times within ten minutes.
    """
    models = Repository(repository).models()
    triton = Triton(
        repository,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        key=key,
        log=log,
        on_progress=progress_line,
    )
    try:
        # Ctrl-C too: Python's own handler would let a second one interrupt the shutdown of Triton.
        with interrupted_by(signal.SIGINT, signal.SIGTERM, signal.SIGHUP), triton:
            progress_line(
                f"serving {', '.join(_describe(triton.repository, model) for model in models) or 'no models yet'}"
            )
            progress_line(
                f"gRPC {triton.url}, HTTP port {triton.ports.http}, metrics port {triton.ports.metrics}, log {log}"
            )
            for name, reason in _left_out(triton).items():
                progress_line(f"left out: {name}: {reason}")
            for model in models:
                for warning in setting_warnings(triton.repository.config(model)):
                    progress_line(f"warning: model {model}: {warning}")
            progress_line("uses the given key" if key else f"key for promote and rollback: {triton.key}")
            _print_next(models, triton)
            triton.wait()
    except KeyboardInterrupt:
        progress_line("stopped")


def _print_next(models: Sequence[str], triton: Triton) -> None:
    if models:
        print_next("classify", "IMAGES", "--model", models[0], "--url", triton.url)
    else:
        print_next("publish", "RUN", *name_repository(triton.repository.path), "--url", triton.url, "--key", "KEY")


def _describe(repository: Repository, model: str) -> str:
    live, rollout = live_versions(repository.config(model)), repository.rollout(model)
    described = f"{model} version {', '.join(map(str, live)) or 'latest'}"
    if rollout is None:
        return described
    return f"{described} and {rollout.version} as a {'canary' if rollout.canary else 'shadow'}"


def _left_out(triton: Triton) -> dict[str, str]:
    """What the repository holds and the server does not serve, with the reasons."""
    with Control(triton.url, triton.key) as control:
        ready = {state.model for state in control.models() if state.state == "READY"}
    return {
        model: f"{note}: {reason}" if (reason := load_failure(triton.log, model)) else note
        for model, note in triton.repository.foreign_models().items()
        if model not in ready
    }
