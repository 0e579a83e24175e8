"""The model repository on disk: its models, their versions and their configurations.

::

    model_repository/<model>/config.pbtxt    Triton's configuration of the model; names the live version
    model_repository/<model>/<version>/      one published version; see `tamiz_server.version`

A new version is written to a staging folder beside the repository, because Triton treats every folder in the repository
as a model, and then renamed into place. So a version appears complete or not at all, and is never overwritten. A
process that changes a repository locks the repository's folder, so that others wait.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tamiz.errors import RepositoryError, os_reason, suggest
from tamiz.locks import open_locked
from tamiz.served_version import live_versions
from tamiz.spec import ModelSpec

from .config import (
    ModelConfig,
    ServingSettings,
    add_version,
    format_config,
    last_version,
    new_config,
    parse_config,
    read_promotions,
    set_live,
)
from .version import Version, read_version, version_numbers, write_version

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
CONFIG_FILE = "config.pbtxt"


class ConfigChange(NamedTuple):
    """A model's configuration before and after a change.

    Attributes:
        before: the configuration that was replaced.
        after: the configuration that replaced it; equal to ``before`` if nothing had to change.
    """

    before: ModelConfig
    after: ModelConfig


class Repository:
    """A Triton model repository.

    Attributes:
        path: folder of the repository; `publish` creates it if it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def models(self) -> list[str]:
        """Names of the models, sorted.

        Raises:
            RepositoryError: the repository does not exist.
        """
        self._require_folder()
        return sorted(entry.parent.name for entry in self.path.glob(f"*/{CONFIG_FILE}"))

    def versions(self, model: str) -> list[Version]:
        """All versions of a model, lowest number first.

        Raises:
            RepositoryError: there is no such model, or one of its versions is damaged.
        """
        live = live_versions(self.config(model))
        return [read_version(self.path / model, number, live=number in live) for number in self.version_numbers(model)]

    def version_numbers(self, model: str) -> list[int]:
        """Numbers of a model's versions, lowest first; empty if there is no such model."""
        return version_numbers(self.path / model)

    def live_version(self, model: str) -> Version:
        """The live version of a model; the newest one if an operator has made several live.

        Raises:
            RepositoryError: there is no such model, it has no live version, or that version is missing or damaged.
        """
        numbers = live_versions(self.config(model))
        if not numbers:
            raise RepositoryError(f"model {model} in {self.path}: {CONFIG_FILE} names no live version")
        return read_version(self.path / model, numbers[-1], live=True)

    def config(self, model: str) -> ModelConfig:
        """A copy of Triton's configuration of a model (``inference.ModelConfig``).

        To change the model, use `update_config`.

        Raises:
            RepositoryError: there is no such model, or its configuration cannot be read.
        """
        path = self.path / model / CONFIG_FILE
        if not path.is_file():
            raise RepositoryError(f"no model {model!r} in {self.path}{suggest(model, self.models())}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RepositoryError(f"{path} cannot be read: {os_reason(exc)}") from exc
        return parse_config(text, str(path))

    def publish(
        self,
        model: str,
        onnx: str | os.PathLike[str],
        spec: ModelSpec,
        *,
        manifest: Mapping[str, Any] | None = None,
        settings: ServingSettings = ServingSettings(),
    ) -> int:
        """Add a version to a model.

        The first version goes live at once; a later one goes live when it is promoted.

        Args:
            model: name of the model: letters, digits, ".", "_" and "-"; the first character is a letter or a digit.
            onnx: an ONNX file, which is copied. Its graph has the input ``image``, uint8
                ``[batch, height, width, channels]``, and the output ``probabilities``, float32 ``[batch, classes]``.
            spec: labels, preprocessing and thresholds of the version.
            manifest: how the version was created; the hashes of the graph and the spec, and the time, are added.
            settings: how Triton serves the model; used for the first version only.

        Returns:
            the number of the new version. A number is never reused, even after its version is deleted.

        Raises:
            RepositoryError: the name is not valid, there is no ONNX file, the model was not published by Tamiz, or the
                repository cannot be changed.
        """
        if not MODEL_NAME.fullmatch(model):
            raise RepositoryError(
                f'model name {model!r} is not valid: use letters, digits, ".", "_" and "-"; the first character is a '
                "letter or a digit"
            )
        graph = Path(onnx)
        if not graph.is_file():
            raise RepositoryError(f"cannot publish {graph}: no such file")
        with self._locked(create=True), self._staging_folder() as staging:
            is_new = not (self.path / model / CONFIG_FILE).is_file()
            config = new_config(model, settings) if is_new else self.config(model)
            if not is_new:
                _require_published_by_tamiz(config)
            version = max([last_version(config), *self.version_numbers(model)]) + 1
            add_version(config, version, spec)
            if is_new:
                set_live(config, [version], spec)
            model_folder = staging / model
            model_folder.mkdir()
            write_version(
                model_folder / str(version),
                model=model,
                version=version,
                graph=graph,
                spec=spec,
                manifest=manifest or {},
            )
            (model_folder / CONFIG_FILE).write_text(format_config(config), encoding="utf-8")
            self._move_into_place(model_folder, version, is_new=is_new)
        return version

    def update_config(self, model: str, update: Callable[[ModelConfig], None]) -> ConfigChange:
        """Read a model's configuration, change it and write it back, while no other process changes the repository.

        Args:
            model: name of the model.
            update: changes the configuration in place. If it raises or changes nothing, nothing is written.

        Raises:
            RepositoryError: there is no such model, or the repository cannot be changed.
        """
        with self._locked():
            before = self.config(model)
            after = ModelConfig()
            after.CopyFrom(before)
            update(after)
            if after != before:
                with self._staging_folder() as staging:
                    (staging / CONFIG_FILE).write_text(format_config(after), encoding="utf-8")
                    (staging / CONFIG_FILE).replace(self.path / model / CONFIG_FILE)
            return ConfigChange(before, after)

    def _move_into_place(self, staged: Path, version: int, *, is_new: bool) -> None:
        target = self.path / staged.name
        if is_new:
            # The first version and its configuration appear together.
            staged.rename(target)
        else:
            (staged / str(version)).rename(target / str(version))
            # The configuration is replaced last: a version that it does not mention is not served.
            (staged / CONFIG_FILE).replace(target / CONFIG_FILE)

    @contextmanager
    def _locked(self, *, create: bool = False) -> Iterator[None]:
        """Hold the repository's lock during the block; an OSError in the block becomes a RepositoryError."""
        try:
            if create:
                self.path.mkdir(parents=True, exist_ok=True)
            else:
                self._require_folder()
            descriptor = open_locked(self.path, wait=True)
            assert descriptor is not None, "open_locked returns None only with wait=False"
            try:
                yield
            finally:
                os.close(descriptor)
        except OSError as exc:
            path = exc.filename or self.path
            raise RepositoryError(f"model repository {self.path} cannot be changed: {path}: {os_reason(exc)}") from exc

    def _require_folder(self) -> None:
        if not self.path.is_dir():
            raise RepositoryError(f"no model repository {self.path}: `tamiz publish` creates it")

    @contextmanager
    def _staging_folder(self) -> Iterator[Path]:
        """A temporary folder beside the repository, on the same file system so that renames are atomic.

        It is removed when the block ends. The caller must hold the lock.
        """
        path = self.path.resolve()
        # Checked first, because the renames at the end need it.
        if not os.access(path, os.W_OK):
            raise RepositoryError(f"model repository {self.path} cannot be changed: permission denied")
        prefix = f".{path.name}.staging-"
        for abandoned in path.parent.glob(f"{prefix}*"):
            # We hold the lock, so the process that created this folder was killed.
            shutil.rmtree(abandoned, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _require_published_by_tamiz(config: ModelConfig) -> None:
    # Only `publish` records promotions; without them, this raises.
    read_promotions(config)
