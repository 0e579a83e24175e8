"""Verification of a repository: whether its files are still those that were published.

The SHA-256 of each file of a version is recorded twice: in the version's manifest, and in the summary of the version in
config.pbtxt, which also has the hash of the manifest. A file that was changed, lost or added later is found. Somebody
who changes both records on purpose is not: that takes a signature, or a copy of the hashes elsewhere, such as in
MLflow's registry or in the provenance of predictions.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tamiz.arguments import check_text, check_type
from tamiz.errors import RepositoryError, cut, os_reason, suggest
from tamiz.files import sha256

from .config import PROMOTIONS, ModelConfig, read_published_versions, read_spec_text, read_summary
from .history import HISTORY_FILE
from .repository import CONFIG_FILE, MODEL_NAME, Repository
from .staging import STAGED
from .version import GRAPH_FILE, MANIFEST_FILE, SPEC_FILE, is_file_name, summarize

MODEL_FILES = frozenset({CONFIG_FILE, HISTORY_FILE})
"""The files of Tamiz in the folder of a model, beside the folders of its versions."""

_RECORDED = {GRAPH_FILE: "onnx_sha256", SPEC_FILE: "spec_sha256", MANIFEST_FILE: "manifest_sha256"}
"""Key of the hash of each file of a version; the manifest does not have its own."""

_ATTEMPTS = 5
"""How often a model is verified that has findings, but was changed in the meantime."""


@dataclass(frozen=True)
class Finding:
    """A file that is not as it was published.

    Attributes:
        path: path of the file, relative to the repository.
        problem: ``changed``, ``missing``, ``extra`` (no publication wrote it), or ``unreadable``.
        reason: how it was found, such as the hash that is recorded.
    """

    path: str
    problem: Literal["changed", "missing", "extra", "unreadable"]
    reason: str


@dataclass(frozen=True)
class Verification:
    """What was verified, and what was found.

    Attributes:
        models: number of models.
        versions: number of versions.
        files: number of files whose content was compared with a recorded hash.
        unrecorded: files whose hash nothing records, because an earlier release of Tamiz published them, relative to
            the repository.
        findings: the files that are not as they were published, in the order of their paths.
    """

    models: int
    versions: int
    files: int
    unrecorded: tuple[str, ...]
    findings: tuple[Finding, ...]


def verify(repository: Repository, model: str | None = None) -> Verification:
    """Hash the files of a repository again, and compare them with what their publication recorded.

    Args:
        repository: the repository.
        model: name of the only model to verify; None verifies all that Tamiz published.

    Raises:
        RepositoryError: the repository does not exist, or has no such model.
        UsageError: an argument is wrong.
    """
    check_type("repository", repository, Repository, "a tamiz_server.Repository")
    if model is not None:
        check_text("model", model, "the name of a model, or None")
    # Before the models, so that one that is published meanwhile is among them.
    folders = _folders_of_versions(repository.path)
    published = repository.models()
    known = sorted({*published, *folders})
    if model is not None and model not in known:
        raise RepositoryError(f"no model {cut(model, 100)!r} in {repository.path}{suggest(model, known)}")
    names = known if model is None else [model]
    works = [
        _verify_model(repository, name) if name in published else _find_lost(repository.path, name) for name in names
    ]
    findings = sorted((finding for work in works for finding in work.findings), key=lambda finding: finding.path)
    return Verification(
        len(names),
        sum(work.versions for work in works),
        sum(work.files for work in works),
        tuple(path for work in works for path in work.unrecorded),
        tuple(findings),
    )


def _folders_of_versions(root: Path) -> set[str]:
    """The names of the folders that have a version of Tamiz, whether or not they have its configuration."""
    found = set()
    for path in root.glob(f"*/*/{MANIFEST_FILE}"):
        model = path.parent.parent
        # Another tool may have such a file too; without a configuration, it cannot be told from a damaged one.
        is_ours = not (model / CONFIG_FILE).exists() or "onnx_sha256" in _read_manifest(path)
        if MODEL_NAME.fullmatch(model.name) and path.parent.name.isdecimal() and is_ours:
            found.add(model.name)
    return found


def _find_lost(root: Path, model: str) -> _Work:
    """The finding about a model whose configuration was deleted, or replaced by one that is not of Tamiz."""
    work, path = _Work(root), root / model / CONFIG_FILE
    if path.exists():
        work.add(path, "changed", f"it has no {PROMOTIONS}, although Tamiz published versions of the model")
    else:
        work.add(path, "missing", "Tamiz published versions of the model")
    return work


def _verify_model(repository: Repository, model: str) -> _Work:
    for _ in range(_ATTEMPTS):
        work = _Work(repository.path)
        try:
            config, numbers = _look(repository, model)
            work.verify_model(repository.path / model, config, numbers)
            # Hashing takes long: a version may have been published or removed meanwhile, which is no finding.
            if not work.findings or _look(repository, model) == (config, numbers):
                return work
        except RepositoryError as exc:
            work.add(repository.path / model / CONFIG_FILE, "unreadable", str(exc))
            return work
    return work


def _look(repository: Repository, model: str) -> tuple[ModelConfig, list[int]]:
    """The configuration of a model and the numbers of its versions on disk, while nobody changes the repository."""
    numbers: list[int] = []

    def update(config: ModelConfig) -> None:
        numbers.extend(repository.version_numbers(model))

    return repository.update_config(model, update).after, numbers


def _read_manifest(path: Path) -> Mapping[str, object]:
    """Read a manifest; empty if it is none, of which `_Work` says whether it is missing or changed."""
    try:
        # Not a device or a pipe, which might never end.
        manifest = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


class _Work:
    """The counts and findings of the verification of one model."""

    def __init__(self, root: Path) -> None:
        self.versions = self.files = 0
        self.unrecorded: list[str] = []
        self.findings: list[Finding] = []
        self._root = root

    def verify_model(self, folder: Path, config: ModelConfig, on_disk: Sequence[int]) -> None:
        published = read_published_versions(config)
        for version in sorted({*on_disk, *published}):
            self.versions += 1
            if version not in published:
                self.add(folder / str(version), "extra", f"{CONFIG_FILE} does not mention this version")
            elif not (folder / str(version)).is_dir():
                self.add(folder / str(version), "missing", f"{CONFIG_FILE} has its spec")
            else:
                self._verify_version(folder / str(version), version, config)
        versions = {str(version) for version in on_disk}
        for path in self._entries(folder):
            if path.name not in MODEL_FILES | versions:
                self.add(path, "extra", "it is no version, and no file of Tamiz")

    def _verify_version(self, folder: Path, version: int, config: ModelConfig) -> None:
        manifest, summary = _read_manifest(folder / MANIFEST_FILE), read_summary(config, version)
        named = manifest.get("files")
        named = named if isinstance(named, dict) else {}
        further = {name: value for name, value in named.items() if is_file_name(name)}
        for name in named.keys() - further.keys():
            reason = f"it names {cut(name, 100)!r}, which is no name of a file of the version"
            self.add(folder / MANIFEST_FILE, "changed", reason)
        as_published = set()
        for name in [*_RECORDED, *sorted(further)]:
            key = _RECORDED.get(name, "")
            records = {CONFIG_FILE: summary.get(key), MANIFEST_FILE: manifest.get(key) if key else further[name]}
            records = {source: value for source, value in records.items() if value is not None}
            if self._verify_file(folder / name, records):
                as_published.add(name)
        for path in self._entries(folder):
            if path.name not in {*_RECORDED, *further}:
                self.add(path, "extra", "its publication did not write it")
        # A copy that differs from a file that changed says nothing new.
        if SPEC_FILE in as_published:
            self._verify_spec(folder / SPEC_FILE, version, config)
        if MANIFEST_FILE in as_published:
            self._verify_summary(folder.parent / CONFIG_FILE, version, summary, summarize(manifest))

    def _verify_file(self, path: Path, records: Mapping[str, object]) -> bool:
        """Compare a file with its recorded hashes, by the name of the file that records each; whether it has them."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                self.add(path, "unreadable", "it is not a regular file")
                return False
            found = sha256(path)
        except OSError as exc:
            if isinstance(exc, FileNotFoundError) and not path.is_symlink():
                self.add(path, "missing", "its publication wrote it")
                return False
            self.add(path, "unreadable", os_reason(exc))
            return False
        self.files += bool(records)
        if not records:
            self.unrecorded.append(self._relative(path))
        differing = [f"{str(value)[:64]} in {source}" for source, value in records.items() if value != found]
        if differing:
            self.add(path, "changed", f"its SHA-256 is {found}; recorded is {' and '.join(differing)}")
        return not differing

    def _verify_spec(self, path: Path, version: int, config: ModelConfig) -> None:
        """Compare the spec in config.pbtxt, which clients read, with the file of the version."""
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            self.add(path, "unreadable", os_reason(exc))
            return
        if read_spec_text(config, version) != text:
            reason = f"its spec of version {version} is not that of {version}/{path.name}"
            self.add(path.parent.parent / CONFIG_FILE, "changed", reason)

    def _verify_summary(
        self, path: Path, version: int, summary: Mapping[str, object], current: Mapping[str, object]
    ) -> None:
        """Compare the summary in config.pbtxt with that of the manifest; an earlier release recorded less."""
        if differing := [name for name, value in summary.items() if name in current and value != current[name]]:
            named = ", ".join(differing)
            self.add(path, "changed", f"its summary of version {version} differs from the manifest: {named}")

    def add(self, path: Path, problem: Literal["changed", "missing", "extra", "unreadable"], reason: str) -> None:
        self.findings.append(Finding(self._relative(path), problem, reason))

    def _entries(self, folder: Path) -> list[Path]:
        """What is in a folder, sorted, without what a change that is in progress puts there."""
        try:
            return [path for path in sorted(folder.iterdir()) if not path.name.startswith(STAGED)]
        except OSError as exc:
            self.add(folder, "unreadable", os_reason(exc))
            return []

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._root))
