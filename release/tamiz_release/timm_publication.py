"""Publication of pretrained models of timm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tamiz.arguments import check_instance
from tamiz_server.control import Control
from tamiz_server.repository import Repository

from .candidate import timm_candidate
from .gate import GateImages, GateLimits
from .gate.limits import DEFAULT_LIMITS
from .publication import PublishedVersion, publish_candidate
from .publication_arguments import check_publication
from .sources.timm_model import TimmSource


def publish_timm(
    source: TimmSource,
    repository: Repository,
    model: str,
    *,
    images: GateImages | None = None,
    limits: GateLimits = DEFAULT_LIMITS,
    force: str | None = None,
    promote: bool = False,
    control: Control | None = None,
    reason: str = "",
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Export a pretrained model of timm, and add it to a model repository as the next version, if it passes the gate.

    The first version goes live at once; a later one goes live when it is promoted.

    Args:
        source: the model.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model.
        images: the images on which the gate measures. Default: none.
        limits: the limits of the gate.
        force: why the graph is published even if it fails the gate; None publishes nothing then.
        promote: whether to make the new version the live one.
        control: a running server of this repository, which loads the version when it goes live.
        reason: why, for the history of the model.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        ExportError: PyTorch cannot export the network.
        GateError: the graph failed the gate, and ``force`` is None.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    check_instance("source", source, TimmSource)
    check_publication(
        repository,
        model,
        images=images,
        limits=limits,
        force=force,
        promote=promote,
        control=control,
        reason=reason,
        on_progress=on_progress,
    )
    for note in source.notes:
        on_progress(f"note: {note}")
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder:
        candidate = timm_candidate(source, Path(folder))
        on_progress(f"exported {source.title}: {candidate.graph.stat().st_size / 2**20:.1f} MiB")
        return publish_candidate(
            candidate,
            repository,
            model,
            reference=source,
            images=images,
            limits=limits,
            force=force,
            promote=promote,
            control=control,
            reason=reason,
            on_progress=on_progress,
        )
