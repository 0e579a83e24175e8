"""One published version of a model: the folder that holds its graph, its spec and its manifest.

::

    <model>/<version>/model.onnx       the graph: input ``image``, output ``probabilities``
    <model>/<version>/spec.json        the spec: labels, preprocessing and thresholds
    <model>/<version>/manifest.json    how the version was created: hashes, metrics, library versions, time
    <model>/<version>/…                other files that belong to it, such as the report of the gate
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tamiz.errors import RepositoryError, SpecError, os_reason
from tamiz.files import sha256
from tamiz.json_text import to_json
from tamiz.spec import ModelSpec

from .accelerators import name_accelerators
from .config import ModelConfig, add_version, drop_versions, read_published_versions
from .plan import PLATFORM
from .states import State

GRAPH_FILE = "model.onnx"
SPEC_FILE = "spec.json"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Version:
    """A published version of a model.

    Attributes:
        model: name of the model.
        version: number of the version, from 1.
        state: what the version is to its model: live, candidate of a rollout, previous or archived.
        spec: labels, preprocessing and thresholds of the version.
        manifest: how the version was created: hashes, metrics, library versions, time of publication.
    """

    model: str
    version: int
    state: State
    spec: ModelSpec
    manifest: dict[str, Any]

    @property
    def live(self) -> bool:
        """Whether the version is live."""
        return self.state is State.LIVE


def write_version(
    folder: Path,
    *,
    model: str,
    version: int,
    graph: Path,
    spec: ModelSpec,
    manifest: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> dict[str, object]:
    """Write the folder of a version.

    Args:
        folder: the folder to create; it must not exist.
        model: name of the model.
        version: number of the version.
        graph: the ONNX file, which is moved into the folder.
        spec: spec of the version.
        manifest: entries of the manifest, beside the hashes and the time, which are added here. If the hash of the
            graph, ``onnx_sha256``, is among them, the graph must have it.
        files: content of other files of the version, by name; the manifest gets their hashes, as ``files``.

    Returns:
        the summary of the version for the model's configuration: that of the manifest (`summarize`), and the SHA-256
        of the manifest, ``manifest_sha256``.

    Raises:
        OSError: the folder cannot be written, or is on another file system than the graph.
        RepositoryError: the graph has another hash than the manifest, or a file has no plain name.
    """
    onnx_sha256 = sha256(graph)
    checked = manifest.get("onnx_sha256") or onnx_sha256
    if checked != onnx_sha256:
        raise RepositoryError(
            f"model {model}: the graph changed since it was checked: its SHA-256 is {onnx_sha256}, then it was "
            f"{checked}; check and publish it again"
        )
    if refused := [name for name in files or {} if not is_file_name(name)]:
        raise RepositoryError(f"model {model}: a version cannot have a file named {refused[0]!r}; give a plain name")
    folder.mkdir(parents=True)
    (folder / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    document = {
        "model": model,
        "version": version,
        "published": datetime.now(UTC).isoformat(timespec="seconds"),
        "onnx_sha256": onnx_sha256,
        "spec_sha256": sha256(folder / SPEC_FILE),
        **({"files": {name: sha256(folder / name) for name in files}} if files else {}),
        **manifest,
    }
    (folder / MANIFEST_FILE).write_text(to_json(document, indent=2), encoding="utf-8")
    graph.rename(folder / GRAPH_FILE)
    return _summary(folder, document)


def is_file_name(name: str) -> bool:
    """Whether a version can have a file of this name: a plain one, beside the graph, the spec and the manifest."""
    return name.isprintable() and "/" not in name and name not in {"", ".", "..", GRAPH_FILE, SPEC_FILE, MANIFEST_FILE}


def _summary(folder: Path, manifest: Mapping[str, Any]) -> dict[str, object]:
    return {**summarize(manifest), "manifest_sha256": sha256(folder / MANIFEST_FILE)}


def keep_specs(config: ModelConfig, model_folder: Path, version: int, numbers: Collection[int]) -> None:
    """Drop the specs of versions that are gone from a configuration, and add that of a version if it has none.

    A version has none if its folder was put back after it was removed, such as from a backup.

    Args:
        config: the configuration, changed in place.
        model_folder: the folder of the model.
        version: a version that goes into service.
        numbers: the versions that are on disk.

    Raises:
        RepositoryError: the version is damaged.
    """
    drop_versions(config, keep=numbers)
    if version not in read_published_versions(config):
        manifest = _read_manifest(model_folder, version)
        add_version(config, version, read_spec(model_folder, version), _summary(model_folder / str(version), manifest))


def summarize(manifest: Mapping[str, Any]) -> dict[str, object]:
    """What is worth knowing of a version when versions are listed: its run, test metrics, publication and hashes.

    Returns:
        ``run``, ``precision`` (``fp32``, ``fp16`` or ``int8``), ``accelerator`` (what computes it instead of ONNX
        Runtime's own kernels, such as ``tensorrt``, or ``tensorrt_plan``), ``test_accuracy``, ``test_f1`` (the mean
        over the labels), ``test_images`` (a hash of the test images with their labels, which is equal for versions that
        were measured on the same ones), ``published`` (ISO 8601), ``gate`` (the verdict), ``onnx_sha256`` and
        ``spec_sha256``; each is None if the manifest does not have it.
    """
    test = _object(_object(manifest.get("metrics")).get("test"))
    named = name_accelerators(manifest.get("accelerators"))
    return {
        "run": manifest.get("run"),
        "precision": manifest.get("precision"),
        "accelerator": PLATFORM if "plan" in manifest else ", ".join(named) or None,
        "test_accuracy": test.get("accuracy"),
        "test_f1": test.get("f1", test.get("f1_macro")),
        "test_images": _object(manifest.get("contents")).get("test"),
        "published": manifest.get("published"),
        "gate": _object(manifest.get("gate")).get("verdict"),
        "onnx_sha256": manifest.get("onnx_sha256"),
        "spec_sha256": manifest.get("spec_sha256"),
    }


def _object(value: object) -> Mapping[str, Any]:
    """A JSON object; an empty one for anything else, since a manifest on disk may hold anything."""
    return value if isinstance(value, dict) else {}


def read_version(model_folder: Path, version: int, state: State) -> Version:
    """Read the folder of a version.

    Raises:
        RepositoryError: the spec or the manifest is missing or damaged.
    """
    manifest = _read_manifest(model_folder, version)
    return Version(model_folder.name, version, state, read_spec(model_folder, version), manifest)


def _read_manifest(model_folder: Path, version: int) -> dict[str, Any]:
    model, path = model_folder.name, model_folder / str(version) / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise _damaged(model, version, path, os_reason(exc)) from exc
    except RecursionError as exc:
        raise _damaged(model, version, path, "the JSON document is nested too deeply") from exc
    if not isinstance(manifest, dict):
        raise _damaged(model, version, path, "expected a JSON object")
    return manifest


def read_accelerators(model_folder: Path, version: int) -> Mapping[str, Any]:
    """What computes a version instead of ONNX Runtime's own kernels; empty for none, or if its manifest is damaged.

    Returns:
        the message ``optimization.execution_accelerators`` of config.pbtxt as JSON.
    """
    try:
        return _object(_read_manifest(model_folder, version).get("accelerators"))
    except RepositoryError:
        return {}


def read_spec(model_folder: Path, version: int) -> ModelSpec:
    """Read the spec of a version.

    Raises:
        RepositoryError: the spec is missing or damaged.
    """
    path = model_folder / str(version) / SPEC_FILE
    try:
        return ModelSpec.from_json(path.read_bytes(), source=str(path))
    except (OSError, SpecError) as exc:
        raise _damaged(model_folder.name, version, path, os_reason(exc)) from exc


def _damaged(model: str, version: int, path: Path, reason: str) -> RepositoryError:
    return RepositoryError(f"model {model} version {version} is damaged: {path}: {reason}")


def name_versions(numbers: Sequence[int]) -> str:
    """Versions in a sentence: ``version 3``, ``versions 1, 2``, or ``no version``."""
    return f"version{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}" if numbers else "no version"


def version_numbers(model_folder: Path) -> list[int]:
    """Numbers of the versions in a model's folder, lowest first; none if there is no such folder."""
    if not model_folder.is_dir():
        return []
    # Triton ignores a number with leading zeros.
    return sorted(
        int(entry.name)
        for entry in model_folder.iterdir()
        if entry.name.isdecimal() and entry.name == str(int(entry.name)) and entry.is_dir()
    )
