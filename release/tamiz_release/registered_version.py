"""A version in MLflow's registry that Tamiz registered: its name as a source, and its download.

Only the files of the published version are downloaded, an ONNX graph and two JSON documents. Their hashes are checked,
and nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tamiz.errors import TamizError, TrackingError, UsageError, cut
from tamiz.files import sha256
from tamiz.spec import ModelSpec
from tamiz_server.config import ServingSettings
from tamiz_server.repository import MODEL_NAME, Repository
from tamiz_server.version import GRAPH_FILE, MANIFEST_FILE, SPEC_FILE

from .adaptation import examine
from .candidate import Candidate, find_precision
from .mlflow_store import Store, find_store, more_time_for_files, open_store
from .registry import FILES, ORIGIN_KEY, TRACKING_KEY

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
_MAX_JSON_BYTES = 64 * 2**20
_OF_PUBLICATION = frozenset(
    {
        "model",
        "version",
        "published",
        "onnx_sha256",
        "spec_sha256",
        "precision",
        "accelerators",
        "serving",
        "files",
        "gate",
    }
)
"""Keys of a manifest that a publication writes anew."""


def read_name(uri: str) -> str:
    """The name of the registered model in a URI such as ``models:/digits@champion``.

    Raises:
        UsageError: the URI is malformed.
    """
    return _parse(uri)["name"]


def pull(uri: str, folder: Path, repository: Repository | None = None) -> Candidate:
    """Download a version that Tamiz registered in MLflow, and check that its files are those that were published.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        folder: an existing folder for the files.
        repository: a repository whose model of this name says which store it is registered in. Without one, or if it
            has none, ``MLFLOW_REGISTRY_URI`` or ``MLFLOW_TRACKING_URI`` names the store, or it is ``mlflow.db`` in the
            current folder.

    Raises:
        UsageError: the URI is malformed, or no store is configured.
        TrackingError: the store cannot be used, it has no such version, Tamiz did not register the version, or its
            files are not those that were published.
        ExportError: the graph does not match its spec.
        SpecError: the spec cannot be read.
    """
    name, alias, number = (_parse(uri)[part] for part in ("name", "alias", "version"))
    store = _store_to_pull_from(name, repository)
    with open_store(store) as client:
        registered = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        source = client.get_model_version_download_uri(name, registered.version)
        with more_time_for_files():
            missing = [file for file in FILES if not _download(f"{source}/{file}", folder, store)]
        tags, version = registered.tags, str(registered.version)
    if missing:
        raise TrackingError(
            f"{uri}: version {version} has no {' and no '.join(missing)}: it was not registered by Tamiz; publish the "
            "ONNX file itself"
        )
    manifest = _read_manifest(uri, folder / MANIFEST_FILE)
    for file, key in ((GRAPH_FILE, "onnx_sha256"), (SPEC_FILE, "spec_sha256"), (MANIFEST_FILE, "manifest_sha256")):
        found = sha256(folder / file)
        records = {"its manifest": manifest.get(key, found), "its tags": tags.get(f"tamiz.{key}")}
        differing = [where for where, recorded in records.items() if recorded != found]
        if differing:
            raise TrackingError(
                f"{uri}: {file} is not the one that was published: its SHA-256 is {found}, not that in "
                f"{' and in '.join(differing)}"
            )
    graph = examine(folder / GRAPH_FILE)
    spec = ModelSpec.from_json((folder / SPEC_FILE).read_bytes(), source=f"{uri}: {SPEC_FILE}")
    if not graph.complete or spec != graph.spec:
        raise TrackingError(f"{uri}: {SPEC_FILE} is not the spec in the metadata of {GRAPH_FILE}")
    kept = {key: value for key, value in manifest.items() if key not in _OF_PUBLICATION}
    origin = {"model": name, "version": version, "uri": store.public_registry}
    accelerators = manifest.get("accelerators")
    return Candidate(
        folder / GRAPH_FILE,
        spec,
        find_precision(folder / GRAPH_FILE),
        accelerators if isinstance(accelerators, dict) else {},
        _read_settings(uri, manifest.get("serving")),
        {**kept, ORIGIN_KEY: origin, TRACKING_KEY: store.public_tracking},
        made_from=uri,
    )


def _parse(uri: str) -> re.Match[str]:
    found = _URI.fullmatch(uri)
    if found is None or not MODEL_NAME.fullmatch(found["name"]):
        raise UsageError(
            f"{cut(uri, 200)}: name a version or an alias, as in models:/digits/3 or models:/digits@champion"
        )
    return found


def _store_to_pull_from(name: str, repository: Repository | None) -> Store:
    recorded = None
    try:
        manifests = [version.manifest for version in repository.versions(name)] if repository is not None else []
        recorded = next((each[TRACKING_KEY] for each in reversed(manifests) if each.get(TRACKING_KEY)), None)
    except TamizError:
        # The repository does not have the model yet, or does not exist.
        pass
    default = f"sqlite:///{Path('mlflow.db').resolve()}" if Path("mlflow.db").is_file() else None
    store = find_store(recorded) or find_store(default)
    if store is None:
        raise UsageError(
            f"models:/{name}: no MLflow is configured: set MLFLOW_TRACKING_URI to the URI of its server or its database"
        )
    return store


def _download(uri: str, folder: Path, store: Store) -> bool:
    """Download one artifact; whether there is one."""
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=store.tracking)
    except (OSError, MlflowException) as exc:
        code = getattr(exc, "error_code", None)
        if isinstance(exc, FileNotFoundError) or code == "RESOURCE_DOES_NOT_EXIST" or "No such" in str(exc):
            return False
        raise
    return Path(path).is_file() and Path(path).parent == folder


def _read_manifest(uri: str, path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("it is too large")
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise TrackingError(f"{uri}: {path.name} is no manifest: {exc}") from exc
    if not isinstance(manifest, dict):
        raise TrackingError(f"{uri}: {path.name} is no manifest: expected a JSON object")
    return manifest


def _read_settings(uri: str, settings: object) -> ServingSettings | None:
    if not isinstance(settings, dict):
        return None
    try:
        return ServingSettings(**settings)
    except UsageError as exc:
        raise TrackingError(f"{uri}: the serving settings in {MANIFEST_FILE} are wrong: {exc}") from exc
