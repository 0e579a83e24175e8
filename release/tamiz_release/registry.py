"""Registry: the versions of a repository in MLflow's model registry.

Servers load the repository; the registry only mirrors it. `synchronise` registers the versions that MLflow does not
have yet, and moves two aliases: ``champion`` is the live version; ``challenger`` is the candidate of a canary or
shadow, or else the newest version, unless that is live. Each call compares the two places, so the next call makes up
for what was missed while MLflow was down.

A registered version has the files of the published one as artifacts of its MLflow run;
`tamiz_release.registered_version` pulls them from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamiz.arguments import check_instance, check_progress, check_text
from tamiz.errors import RepositoryError, TrackingError
from tamiz.files import sha256
from tamiz.locks import open_locked
from tamiz_server.config import ModelConfig
from tamiz_server.repository import Repository
from tamiz_server.states import State, version_states
from tamiz_server.version import GRAPH_FILE, MANIFEST_FILE, SPEC_FILE, Version, read_version

from .mlflow_store import Store, find_store, more_time_for_files, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases of the live version, and of the one that may become live next."""

TRACKING_KEY, RUN_KEY, ORIGIN_KEY = "mlflow_tracking_uri", "mlflow_run_id", "registry"
"""Keys of a manifest: where the run of the version is tracked, its id there, and from where the version was pulled."""

FILES = (GRAPH_FILE, SPEC_FILE, MANIFEST_FILE)
"""The files of a version without which it cannot be published again; all are artifacts of a registered one."""


def is_registry_uri(source: str) -> bool:
    """Whether the name of a source is that of a version in MLflow's registry, such as ``models:/digits@champion``."""
    return source.startswith("models:/")


def synchronise(repository: Repository, model: str, *, on_progress: Callable[[str], None] = lambda line: None) -> None:
    """Make MLflow's registry agree with a model of a repository; does nothing if no MLflow is configured.

    The store is that of the variable ``MLFLOW_REGISTRY_URI``, otherwise that in which the newest tracked version was
    trained, otherwise that of ``MLFLOW_TRACKING_URI``. An MLflow that cannot be used is a warning, and the next call
    makes up for it.

    Args:
        repository: the repository.
        model: name of the model.
        on_progress: called with a line of text for each change, and for each warning.

    Raises:
        RepositoryError: there is no such model, or its configuration cannot be read.
    """
    check_instance("repository", repository, Repository)
    check_text("model", model, "the name of a model")
    check_progress(on_progress)
    store = _find_store(repository, model)
    if store is None:
        return
    # What happens inside the block is said after it, because MLflow's own output is suppressed there.
    lines: list[str] = []
    try:
        # Two publications at once must not register a version twice. Nothing else locks the folder of a model.
        lock = open_locked(repository.path / model, wait=True)
        assert lock is not None, "open_locked returns None only with wait=False"
        try:
            with open_store(store) as client:
                _mirror(client, repository, model, lines.append)
        finally:
            os.close(lock)
    except (TrackingError, OSError) as exc:
        lines.append(
            f"warning: {model} is not up to date in MLflow's registry: {exc}; the next `tamiz publish`, "
            "`tamiz promote` or `tamiz rollback` of the model tries again"
        )
    for line in lines:
        on_progress(line)


def _find_store(repository: Repository, model: str) -> Store | None:
    """The store of a model: that of the newest version that was tracked."""
    versions = _readable_versions(repository, model, lambda line: None)
    recorded = [version.manifest.get(TRACKING_KEY) for version in versions.values()]
    return find_store(next((uri for uri in reversed(recorded) if isinstance(uri, str)), None))


def _readable_versions(repository: Repository, model: str, on_progress: Callable[[str], None]) -> dict[int, Version]:
    versions = {}
    for number, state in version_states(repository.config(model), repository.version_numbers(model)).items():
        try:
            versions[number] = read_version(repository.path / model, number, state)
        except RepositoryError as exc:
            on_progress(f"warning: not registered in MLflow: {exc}")
    return versions


def _states(config: ModelConfig, numbers: list[int]) -> dict[str, int | None]:
    """The version of each alias by the state of the repository; None for no version."""
    states = version_states(config, numbers)
    live = max((number for number, state in states.items() if state is State.LIVE), default=None)
    tried = (number for number, state in states.items() if state in (State.CANARY, State.SHADOW))
    newest = max(numbers, default=None)
    return {CHAMPION: live, CHALLENGER: next(tried, newest if newest != live else None)}


def _mirror(client: MlflowClient, repository: Repository, model: str, on_progress: Callable[[str], None]) -> None:
    # Read here, where no other process registers: what was promoted or rolled back meanwhile is seen.
    states = _states(repository.config(model), repository.version_numbers(model))
    versions = _readable_versions(repository, model, on_progress)
    folder = repository.path / model
    known = _registered(client, model)
    registered = {}
    for number, version in versions.items():
        found = next((each for each in known if _is_mirror(each, version)), None)
        if found is None:
            try:
                found = _register(client, folder / str(number), version)
            except RepositoryError as exc:
                on_progress(f"warning: not registered in MLflow: {exc}")
                continue
            on_progress(f"registered {model} version {number} in MLflow as version {found.version}")
        registered[number] = str(found.version)
    current = client.get_registered_model(model).aliases if registered else {}
    aliases = {alias: str(version) for alias, version in current.items()}
    for alias, state in states.items():
        wanted = None if state is None else registered.get(state)
        if wanted is not None and aliases.get(alias) != wanted:
            client.set_registered_model_alias(model, alias, wanted)
            on_progress(f"{alias} of {model} in MLflow is version {wanted}")
        elif wanted is None and alias in aliases and state is None:
            client.delete_registered_model_alias(model, alias)
            on_progress(f"{alias} of {model} in MLflow is no version any more")


def _registered(client: MlflowClient, model: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _is_mirror(registered: ModelVersion, version: Version) -> bool:
    """Whether a registered version is a version of the repository: it was registered from it, or pulled from there."""
    same = all(registered.tags.get(name) == value for name, value in _hashes(version.manifest).items())
    origin = version.manifest.get(ORIGIN_KEY)
    pulled = isinstance(origin, dict) and origin.get("version") == str(registered.version)
    return same and (pulled or registered.tags.get("tamiz.version") == str(version.version))


def _hashes(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {f"tamiz.{name}": str(manifest.get(name)) for name in ("onnx_sha256", "spec_sha256")}


def _register(client: MlflowClient, folder: Path, version: Version) -> ModelVersion:
    """Register a version: its files become artifacts of its run.

    Raises:
        RepositoryError: a file is not as it was published.
    """
    hashes = _hashes(version.manifest)
    for name, recorded in ((GRAPH_FILE, hashes["tamiz.onnx_sha256"]), (SPEC_FILE, hashes["tamiz.spec_sha256"])):
        if sha256(folder / name) != recorded:
            raise RepositoryError(f"{folder / name} is not the file that was published; see `tamiz models verify`")
    run_id = _find_run(client, version) or _create_run(client, version)
    # By the content, because a run may be published more than once, and in several precisions.
    manifest_sha256 = sha256(folder / MANIFEST_FILE)
    place = f"tamiz/{manifest_sha256[:16]}"
    further = version.manifest.get("files")
    with more_time_for_files():
        for name in [*FILES, *(name for name in further or () if (folder / Path(name).name).is_file())]:
            client.log_artifact(run_id, str(folder / Path(name).name), place)
    _require_registered_model(client, version.model)
    tags = {**hashes, "tamiz.version": str(version.version), "tamiz.manifest_sha256": manifest_sha256}
    source = f"{client.get_run(run_id).info.artifact_uri.rstrip('/')}/{place}"
    return client.create_model_version(version.model, source, run_id, tags=tags, await_creation_for=0)


def _find_run(client: MlflowClient, version: Version) -> str | None:
    """The id of the MLflow run in which a version was trained; None if this store does not have it."""
    from mlflow.exceptions import MlflowException

    run_id = version.manifest.get(RUN_KEY)
    if not isinstance(run_id, str):
        return None
    try:
        found = client.get_run(run_id)
    except MlflowException as exc:
        if exc.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run_id if found.info.lifecycle_stage == "active" else None


def _create_run(client: MlflowClient, version: Version) -> str:
    """A run that has the files of a version whose training was not tracked here."""
    experiment = client.get_experiment_by_name(version.model)
    experiment_id = client.create_experiment(version.model) if experiment is None else experiment.experiment_id
    run = client.create_run(experiment_id, run_name=f"{version.model} version {version.version}")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _require_registered_model(client: MlflowClient, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
