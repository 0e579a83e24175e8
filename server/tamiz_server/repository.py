"""The model repository on disk: publish, list, promote, roll back.

::

    model_repository/<model>/config.pbtxt
    model_repository/<model>/<version>/model.onnx, spec.json, manifest.json

A version is staged beside the repository, since Triton takes every folder inside it for a model, and renamed
into place whole. It is never overwritten. Changes of one repository wait for each other by a lock on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tamiz.errors import RepositoryError, SpecError, suggest
from tamiz.served_version import live_versions
from tamiz.spec import ModelSpec

from .config import (
    ModelConfig,
    ServingSettings,
    add_version,
    drop_versions,
    format_config,
    last_version,
    new_config,
    parse_config,
    read_promotions,
    set_live,
)

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        model: its name.
        version: its number.
        live: whether a server serves it.
        spec: its contract.
        manifest: how it came to be.
    """

    model: str
    version: int
    live: bool
    spec: ModelSpec
    manifest: dict[str, Any]


class Change(NamedTuple):
    """A change of a model's configuration.

    Attributes:
        before: what `Repository.restore` takes back.
        after: what it became.
    """

    before: ModelConfig
    after: ModelConfig


class Repository:
    """A Triton model repository in a folder, which need not be there before the first version is published."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def models(self) -> list[str]:
        """Names of the models in it.

        Raises:
            RepositoryError: there is no such folder.
        """
        if not self.path.is_dir():
            raise RepositoryError(f"no model repository {self.path}; `tamiz publish` makes one")
        return sorted(entry.parent.name for entry in self.path.glob("*/config.pbtxt"))

    def config(self, model: str) -> ModelConfig:
        """A model's configuration.

        Raises:
            RepositoryError: no such model, or its configuration cannot be read.
        """
        path = self.path / model / "config.pbtxt"
        if not path.is_file():
            raise RepositoryError(f"no model {model!r} in {self.path}{suggest(model, self.models())}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RepositoryError(f"{path} cannot be read: {exc}") from exc
        return parse_config(text, str(path))

    def versions(self, model: str) -> list[Version]:
        """A model's versions, lowest first.

        Raises:
            RepositoryError: no such model, or a version that is not whole.
        """
        live = live_versions(self.config(model))
        return [self._read_version(model, number, number in live) for number in self._numbers(model)]

    def live(self, model: str) -> Version:
        """The version that a server serves.

        Raises:
            RepositoryError: no such model, or its live version is not there.
        """
        numbers = live_versions(self.config(model))
        if not numbers:
            raise RepositoryError(f"model {model} in {self.path}: config.pbtxt names no live version")
        return self._read_version(model, numbers[-1], live=True)

    def publish(
        self,
        model: str,
        onnx: str | os.PathLike[str],
        spec: ModelSpec,
        *,
        manifest: Mapping[str, Any] | None = None,
        settings: ServingSettings = ServingSettings(),
    ) -> int:
        """Add a version. The first one of a model is live at once; a later one when promoted.

        Args:
            model: its name.
            onnx: a graph with the input ``image`` and the output ``probabilities``, copied.
            spec: its contract.
            manifest: how it came to be; the hashes of the graph and the spec, and the time, are added.
            settings: how it is served; only the first version of a model uses them.

        Returns:
            the number of the version.

        Raises:
            RepositoryError: the name or the graph's file will not do, or the repository cannot be written.
        """
        if not MODEL_NAME.fullmatch(model):
            raise RepositoryError(f"model name {model!r}: use letters, digits, and . _ - after the first")
        onnx = Path(onnx)
        if not onnx.is_file():
            raise RepositoryError(f"{onnx}: no such file to publish")
        with self._changing(make=True), self._staging() as stage:
            home = self.path / model
            published = (home / "config.pbtxt").is_file()
            config = self.config(model) if published else new_config(model, settings)
            if published:
                # Which says so where the model is not Tamiz's.
                read_promotions(config)
            version = max([last_version(config), *self._numbers(model)]) + 1
            folder = stage / str(version)
            folder.mkdir()
            shutil.copyfile(onnx, folder / "model.onnx")
            (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
            document = {
                "model": model,
                "version": version,
                "published": datetime.now(UTC).isoformat(timespec="seconds"),
                "onnx_sha256": sha256(folder / "model.onnx"),
                "spec_sha256": sha256(folder / "spec.json"),
                **(manifest or {}),
            }
            (folder / "manifest.json").write_text(json.dumps(document, indent=2), encoding="utf-8")

            add_version(config, version, spec)
            if not published:
                set_live(config, [version], spec)
            (stage / "config.pbtxt").write_text(format_config(config), encoding="utf-8")
            if published:
                folder.rename(home / str(version))
                (stage / "config.pbtxt").replace(home / "config.pbtxt")
            else:
                # The first version and its configuration appear together.
                whole = stage / "whole"
                whole.mkdir()
                folder.rename(whole / str(version))
                (stage / "config.pbtxt").rename(whole / "config.pbtxt")
                whole.rename(home)
        return version

    def promote(self, model: str, version: int) -> Change:
        """Make a version the live one.

        Raises:
            RepositoryError: no such model or version, or the repository cannot be written.
        """
        with self._changing():
            before = self.config(model)
            numbers = self._numbers(model)
            if version not in numbers:
                listed = ", ".join(map(str, numbers))
                raise RepositoryError(f"model {model} has no version {version}; there is {listed}")
            promotions = read_promotions(before)
            if promotions[-1] == version:
                return Change(before, before)
            return self._write_promotions(model, before, [*promotions, version])

    def rollback(self, model: str) -> Change:
        """Make the version live that was live before the last promotion.

        Raises:
            RepositoryError: no such model, nothing to go back to, or the repository cannot be written.
        """
        with self._changing():
            before = self.config(model)
            promotions = read_promotions(before)
            if len(promotions) < 2:
                raise RepositoryError(
                    f"model {model}: version {promotions[0]} is the first that was live; there is nothing to go back to"
                )
            return self._write_promotions(model, before, promotions[:-1])

    def restore(self, model: str, config: ModelConfig, *, instead_of: ModelConfig) -> None:
        """Write a configuration back after a server refused the one that followed it, unless it changed again."""
        with self._changing():
            if self.config(model) == instead_of:
                self._write_config(model, config)

    def _write_promotions(self, model: str, before: ModelConfig, promotions: list[int]) -> Change:
        numbers = self._numbers(model)
        if promotions[-1] not in numbers:
            raise RepositoryError(f"model {model}: version {promotions[-1]} is to be live and is not on disk any more")
        after = ModelConfig()
        after.CopyFrom(before)
        drop_versions(after, keep=numbers)
        there = [version for version in promotions if version in numbers]
        set_live(after, there, self._read_spec(model, promotions[-1]))
        self._write_config(model, after)
        return Change(before, after)

    def _write_config(self, model: str, config: ModelConfig) -> None:
        with self._staging() as stage:
            (stage / "config.pbtxt").write_text(format_config(config), encoding="utf-8")
            (stage / "config.pbtxt").replace(self.path / model / "config.pbtxt")

    def _numbers(self, model: str) -> list[int]:
        home = self.path / model
        if not home.is_dir():
            return []
        return sorted(int(entry.name) for entry in home.iterdir() if entry.is_dir() and entry.name.isdecimal())

    def _read_spec(self, model: str, version: int) -> ModelSpec:
        path = self.path / model / str(version) / "spec.json"
        try:
            return ModelSpec.from_json(path.read_bytes(), source=str(path))
        except (OSError, SpecError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise RepositoryError(f"model {model} version {version} is not whole: {path}: {reason}") from exc

    def _read_version(self, model: str, version: int, live: bool) -> Version:
        path = self.path / model / str(version) / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
        except (OSError, ValueError) as exc:
            raise RepositoryError(f"model {model} version {version} is not whole: {path}: {exc}") from exc
        if not isinstance(manifest, dict):
            raise RepositoryError(f"model {model} version {version} is not whole: {path}: not a JSON object")
        return Version(model, version, live, self._read_spec(model, version), manifest)

    @contextmanager
    def _changing(self, *, make: bool = False) -> Iterator[None]:
        """Hold the repository's lock, and tell of a disk that cannot be written in one line."""
        try:
            if make:
                self.path.mkdir(parents=True, exist_ok=True)
            elif not self.path.is_dir():
                raise RepositoryError(f"no model repository {self.path}; `tamiz publish` makes one")
            handle = os.open(self.path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
        except OSError as exc:
            place = exc.filename or self.path
            raise RepositoryError(f"model repository {self.path} cannot be written: {place}: {exc.strerror}") from exc

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder on the repository's file system, outside the repository; removed at the end."""
        path = self.path.resolve()
        if not os.access(path, os.W_OK):
            raise RepositoryError(f"model repository {self.path} cannot be written: permission denied")
        prefix = f".{path.name}.staging-"
        for stale in path.parent.glob(f"{prefix}*"):
            # The lock is held here, so it is of a process that was killed.
            shutil.rmtree(stale, ignore_errors=True)
        stage = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
