"""Publication of pretrained models of timm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tamiz.arguments import check_instance
from tamiz_server.repository import Repository

from .candidate import timm_candidate
from .gate import GateImages
from .publication import PublishedVersion, publish_candidate
from .publication_options import DEFAULT_OPTIONS, PublicationOptions, check_publication
from .sources.timm_model import TimmSource


def publish_timm(
    source: TimmSource,
    repository: Repository,
    model: str,
    *,
    images: GateImages | None = None,
    options: PublicationOptions = DEFAULT_OPTIONS,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Export a pretrained model of timm, and add it to a model repository as the next version, if it passes the gate.

    The first version goes live at once; a later one goes live when it is promoted.

    Args:
        source: the model.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model.
        images: the images on which the gate measures. Default: none.
        options: how the version is gated, published and brought into service.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        ExportError: PyTorch cannot export the network.
        GateError: the graph failed the gate, and the options do not force it.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    check_instance("source", source, TimmSource)
    check_publication(repository, model, images=images, options=options, on_progress=on_progress)
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
            options=options,
            on_progress=on_progress,
        )
