"""Publication: adding a candidate to a model repository as the next version of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tamiz_server.config import ModelConfig, ServingSettings, read_settings
from tamiz_server.control import Control
from tamiz_server.promotion import apply_settings
from tamiz_server.promotion import promote as promote_version
from tamiz_server.repository import Repository
from tamiz_server.triton_faults import known_version, setting_warnings
from tamiz_train.run import Run

from .candidate import Candidate, graph_candidate, run_candidate
from .publication_warnings import run_warnings, version_warnings
from .registered_version import pull, read_name
from .registry import ORIGIN_KEY, synchronise


@dataclass(frozen=True)
class PublishedVersion:
    """A version that was added to a model repository.

    Attributes:
        model: name of the model.
        version: number of the added version.
        live: number of the version that is live now.
    """

    model: str
    version: int
    live: int


def publish_run(
    run: Run,
    repository: Repository,
    *,
    model: str | None = None,
    promote: bool = False,
    apply_serving: bool = False,
    control: Control | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Export a run, and add it to a model repository as the model's next version.

    The first version goes live at once; a later one goes live when it is promoted.

    Args:
        run: a finished run.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model. Default: the name of the recipe.
        promote: whether to make the new version the live one.
        apply_serving: whether the serving settings of the recipe replace those of the published model.
        control: a running server of this repository, which loads the version when it goes live, and the settings.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        ExportError: the network cannot be exported, or the graph computes something else.
        RunError: the weights cannot be loaded; or the run keeps no validation images, and its data cannot be found.
        OutputError: the folder of the run cannot be written.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    # Imported here, because it needs PyTorch, which publishing a graph does not.
    from tamiz_train.onnx_export import export

    name = model or run.recipe.name
    on_progress(_describe(run))
    _warn(run_warnings(run), on_progress)
    exported = export(run)
    on_progress(f"exported: {exported.parity}")
    return publish_candidate(
        run_candidate(run, exported.path, parity=exported.parity.to_dict()),
        repository,
        name,
        promote=promote,
        apply_serving=apply_serving,
        control=control,
        on_progress=on_progress,
    )


def publish_graph(
    path: Path,
    repository: Repository,
    model: str,
    *,
    promote: bool = False,
    control: Control | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Add a graph that `tamiz export` wrote to a model repository as the model's next version.

    The first version goes live at once; a later one goes live when it is promoted.

    Args:
        path: path of the ONNX file.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model.
        promote: whether to make the new version the live one.
        control: a running server of this repository, which loads the version when it goes live.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        UsageError: there is no such file.
        ExportError: the file is not an ONNX file, has no spec, or does not match its spec.
        SpecError: the spec cannot be read.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    candidate = graph_candidate(path)
    return publish_candidate(candidate, repository, model, promote=promote, control=control, on_progress=on_progress)


def publish_registered(
    uri: str,
    repository: Repository,
    *,
    model: str | None = None,
    promote: bool = False,
    apply_serving: bool = False,
    control: Control | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Add a version that Tamiz registered in MLflow to a model repository as the model's next version.

    The first version goes live at once; a later one goes live when it is promoted, whatever its alias in MLflow is.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model. Default: the name of the registered model.
        promote: whether to make the new version the live one.
        apply_serving: whether the serving settings of the registered version replace those of the published model.
        control: a running server of this repository, which loads the version when it goes live.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        UsageError: the URI is malformed, or no MLflow is configured.
        TrackingError: MLflow cannot be used, it has no such version, Tamiz did not register the version, or its files
            are not those that were published.
        ExportError: the graph does not match its spec.
        SpecError: the spec cannot be read.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    name = model or read_name(uri)
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder:
        candidate = pull(uri, Path(folder), repository)
        origin = candidate.manifest[ORIGIN_KEY]
        on_progress(f"pulled version {origin['version']} of {origin['model']} from {origin['uri']}")
        return publish_candidate(
            candidate,
            repository,
            name,
            promote=promote,
            apply_serving=apply_serving,
            control=control,
            on_progress=on_progress,
        )


def publish_candidate(
    candidate: Candidate,
    repository: Repository,
    model: str,
    *,
    promote: bool = False,
    apply_serving: bool = False,
    control: Control | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Add a candidate to a model repository as the model's next version, and register it in MLflow.

    The first version goes live at once; a later one goes live when it is promoted. An MLflow that cannot be used is a
    warning (`tamiz_release.registry.synchronise`).

    Args:
        candidate: the graph, with its spec and how it was made.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model.
        promote: whether to make the new version the live one.
        apply_serving: whether the serving settings of the candidate replace those of the published model.
        control: a running server of this repository, which loads the version when it goes live, and the settings.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    spec, settings = candidate.spec, candidate.settings
    manifest = {
        **candidate.manifest,
        "precision": candidate.precision,
        "accelerators": dict(candidate.accelerators),
        "serving": settings.model_dump() if settings is not None else None,
    }
    _warn(version_warnings(repository, model, candidate.graph, spec, manifest), on_progress)
    version = repository.publish(
        model, candidate.graph, spec, manifest=manifest, settings=settings or ServingSettings()
    )
    on_progress(f"published {model} version {version} in {repository.path}")
    if settings is not None and (changes := _changed_settings(repository.config(model), settings)):
        if apply_serving:
            apply_settings(repository, model, settings, control=control)
            on_progress(f"applied the serving settings of the recipe: {changes}")
        else:
            on_progress(
                f"warning: config.pbtxt of {model} keeps other serving settings than the recipe: {changes}; "
                "--apply-serving applies those of the recipe"
            )
    if promote:
        promote_version(repository, model, version, control=control)
    live = repository.live_version(model).version
    if control is not None and live == version and not promote:
        # The first version of a model goes live without a promotion.
        control.load(model)
    _warn(setting_warnings(repository.config(model), known_version(control)), on_progress)
    synchronise(repository, model, on_progress=on_progress)
    return PublishedVersion(model, version, live)


def _describe(run: Run) -> str:
    measured = "".join(f", test {name} {value:.4f}" for name, value in [*run.metrics["test"].items()][:1])
    return f"run {run.path}{measured}, trained {run.finished_at:%Y-%m-%d %H:%M}"


def _changed_settings(config: ModelConfig, settings: ServingSettings) -> str:
    current = read_settings(config)
    return ", ".join(
        f"{name} {current[name]:g} (recipe: {value})"
        for name, value in settings.model_dump().items()
        if current[name] != value
    )


def _warn(warnings: Iterable[str], on_progress: Callable[[str], None]) -> None:
    for warning in warnings:
        on_progress(f"warning: {warning}")
