"""Publication of a version that is registered in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tamiz.arguments import check_path, check_text
from tamiz_server.repository import Repository

from .gate import folder_images
from .publication import PublishedVersion, publish_candidate
from .publication_options import DEFAULT_OPTIONS, PublicationOptions, check_publication
from .registered_version import pull, read_name
from .registry import ORIGIN_KEY


def publish_registered(
    uri: str,
    repository: Repository,
    *,
    model: str | None = None,
    images: Path | None = None,
    options: PublicationOptions = DEFAULT_OPTIONS,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Add a version that Tamiz registered in MLflow to a model repository as the next version, if it passes the gate.

    The first version goes live at once; a later one goes live when it is promoted, whatever its alias in MLflow is.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model. Default: the name of the registered model.
        images: a folder with one folder of images for each label, on which the gate measures; None for no images.
        options: how the version is gated, published and brought into service.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        UsageError: the URI is malformed, or no MLflow is configured.
        TrackingError: MLflow cannot be used, it has no such version, Tamiz did not register the version, or its files
            are not those that were published.
        ExportError: the graph does not match its spec.
        SpecError: the spec cannot be read.
        GateError: the version failed the gate, and the options do not force it.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    check_text("uri", uri, "the name of a registered version, such as models:/digits@champion")
    if images is not None:
        check_path("images", images, "the path of a folder, or None")
    check_publication(
        repository, "default" if model is None else model, images=None, options=options, on_progress=on_progress
    )
    name = read_name(uri) if model is None else model
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder:
        candidate = pull(uri, Path(folder), repository)
        origin = candidate.manifest[ORIGIN_KEY]
        on_progress(f"pulled version {origin['version']} of {origin['model']} from {origin['uri']}")
        return publish_candidate(
            candidate,
            repository,
            name,
            images=None if images is None else folder_images(Path(images), candidate.spec),
            options=options,
            on_progress=on_progress,
        )
