"""The model repository on disk: its models, their versions and their configurations.

::

    model_repository/<model>/config.pbtxt    Triton's configuration of the model; names the live version
    model_repository/<model>/<version>/      one published version; see `tamiz_server.version`

A new version is staged inside the repository, so that it is on the same file system, and renamed into place. So a
version appears complete or not at all, and is never overwritten. Triton ignores files beside the models, and folders
inside a model whose name is not a number: the graph is copied to such a file, the version is put together in such a
folder, inside another model if its own has no folder yet. Only the first model of a repository needs a folder that
Triton could take for a model; it exists for the moment in which a few small files are written.

A process that changes a repository locks the repository's folder, so that others wait, and removes what killed ones
left behind.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tamiz.arguments import check_function, check_instance, check_path, check_text, check_type, wrong
from tamiz.errors import RepositoryError, os_reason, shorten, suggest
from tamiz.locks import open_locked
from tamiz.spec import ModelSpec

from .config import (
    PROMOTIONS,
    ModelConfig,
    ServingSettings,
    add_version,
    describe_version_policy,
    last_version,
    live_on_disk,
    new_config,
    parse_config,
    set_live,
    was_published,
)
from .config_text import edit_text
from .version import Version, read_version, summarize, version_numbers, write_version

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
CONFIG_FILE = "config.pbtxt"

_MAX_NAME = 255
"""The longest name of a folder, in bytes (``NAME_MAX`` of Linux)."""

_MAX_SHOWN = 300
"""The number of characters of a path in messages."""

_STAGED_FOLDER = ".tamiz-staging"
_STAGED_GRAPH = ".tamiz-staging.onnx"
_STAGED_CONFIG = ".tamiz-staging.pbtxt"


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

    Raises:
        UsageError: ``path`` is not a path. All methods raise it for a model whose name is not a string.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_path("path", path, "the path of a folder")
        self.path = Path(path)

    def models(self) -> list[str]:
        """Names of the models that Tamiz published, sorted.

        Raises:
            RepositoryError: the repository does not exist, or a configuration cannot be read.
        """
        self._require_folder()
        return [name for name in self.configured() if self._is_published(name)]

    def configured(self) -> list[str]:
        """Names of all folders that have a configuration, sorted: what Triton can load, whoever published it."""
        return sorted(path.parent.name for path in self.path.glob(f"*/{CONFIG_FILE}") if path.is_file())

    def foreign_models(self) -> dict[str, str]:
        """Models of other tools, and folders that are no models, by name; with what distinguishes them.

        Folders whose names no model of Tamiz could have, such as hidden ones or ``lost+found``, are left out unless
        they have a configuration.

        Raises:
            RepositoryError: the repository does not exist, or a configuration cannot be read.
        """
        self._require_folder()
        published = {name: self._is_published(name) for name in self.configured()}
        folders = {entry.name for entry in self.path.iterdir() if entry.is_dir() and MODEL_NAME.fullmatch(entry.name)}
        foreign = {name: "not published by Tamiz" for name, own in published.items() if not own}
        foreign |= dict.fromkeys(folders - published.keys(), f"not published by Tamiz: no {CONFIG_FILE}")
        return dict(sorted(foreign.items()))

    def _is_published(self, model: str) -> bool:
        path = self.path / model / CONFIG_FILE
        # The text decides, so that a model of Tamiz whose configuration became malformed is still known as such.
        try:
            return PROMOTIONS.encode() in path.read_bytes()
        except OSError as exc:
            raise RepositoryError(f"{path} cannot be read: {os_reason(exc)}") from exc

    def versions(self, model: str) -> list[Version]:
        """All versions of a model, lowest number first.

        Raises:
            RepositoryError: there is no such model, or one of its versions is damaged.
        """
        live = self.live_numbers(model)
        return [
            read_version(self._folder(model), number, live=number in live) for number in self.version_numbers(model)
        ]

    def version_numbers(self, model: str) -> list[int]:
        """Numbers of a model's versions, lowest first; empty if there is no such model."""
        return version_numbers(self._folder(model))

    def live_version(self, model: str) -> Version:
        """The live version of a model; the newest one if an operator has made several live.

        Raises:
            RepositoryError: there is no such model, it has no live version, or that version is missing or damaged.
        """
        numbers = self.live_numbers(model)
        if not numbers:
            raise RepositoryError(
                f"model {model} in {self.path}: {describe_version_policy(self.config(model))} in {CONFIG_FILE} selects "
                "no version that is on disk; make one live with `tamiz promote`"
            )
        return read_version(self._folder(model), numbers[-1], live=True)

    def live_numbers(self, model: str) -> list[int]:
        """Numbers of the versions that servers load by the model's version policy, lowest first.

        Raises:
            RepositoryError: there is no such model, or its configuration cannot be read.
        """
        return live_on_disk(self.config(model), self.version_numbers(model))

    def config(self, model: str) -> ModelConfig:
        """A copy of Triton's configuration of a model (``inference.ModelConfig``).

        To change the model, use `update_config`.

        Raises:
            RepositoryError: there is no such model, or its configuration cannot be read.
        """
        return parse_config(self._config_text(model), str(self._folder(model) / CONFIG_FILE))

    def _config_text(self, model: str) -> str:
        path = self._folder(model) / CONFIG_FILE
        if not path.is_file():
            raise RepositoryError(f"no model {model!r} in {self.path}{suggest(model, self.models())}")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RepositoryError(f"{path} cannot be read: {os_reason(exc)}") from exc

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
        check_type("model", model, str, "the name of a model")
        check_path("onnx", onnx, "the path of an ONNX file")
        check_instance("spec", spec, ModelSpec)
        check_type("manifest", manifest, (Mapping, type(None)), "a dict, or None")
        check_instance("settings", settings, ServingSettings)
        if not MODEL_NAME.fullmatch(model):
            raise RepositoryError(
                f'model name {model!r} is not valid: use letters, digits, ".", "_" and "-"; the first character is a '
                "letter or a digit"
            )
        graph = Path(onnx)
        try:
            found = graph.is_file()
        except OSError:
            # The name is too long.
            found = False
        if not found:
            shown = shorten(str(graph), _MAX_SHOWN).replace("\n", "\\n")
            raise RepositoryError(f"cannot publish {shown}: no such file")
        with self._locked(create=True):
            is_new = self._is_new(model)
            before = ModelConfig() if is_new else self.config(model)
            config = new_config(model, settings)
            if not is_new:
                config.CopyFrom(before)
            version = max([last_version(config), *self.version_numbers(model)]) + 1
            staged_graph = self.path / _STAGED_GRAPH
            shutil.copyfile(graph, staged_graph)
            staged = (self._staging_parent() if is_new else self._folder(model)) / _STAGED_FOLDER
            # The first version and its configuration appear together.
            document = write_version(
                staged / str(version) if is_new else staged,
                model=model,
                version=version,
                graph=staged_graph,
                spec=spec,
                manifest=manifest or {},
            )
            add_version(config, version, spec, summarize(document))
            if is_new:
                set_live(config, [version], spec)
                self._write_config(staged, before, config)
                staged.rename(self._folder(model))
            else:
                staged.rename(self._folder(model) / str(version))
                # The configuration is replaced last: a version that it does not mention is not served.
                self._write_config(self._folder(model), before, config)
        return version

    def _staging_parent(self) -> Path:
        """The folder in which a new model is put together: another model, or the repository if there is none."""
        for model in self.models():
            folder = self.path / model
            # A link may lead to another file system, and a mount point does.
            is_plain = not folder.is_symlink() and not folder.is_mount()
            if is_plain and os.access(folder, os.W_OK | os.X_OK):
                return folder
        return self.path

    def _is_new(self, model: str) -> bool:
        folder = self._folder(model)
        if not folder.exists():
            return True
        if not (folder / CONFIG_FILE).is_file() or not was_published(self.config(model)):
            raise RepositoryError(
                f"model {model}: {folder} was not published by Tamiz; publish under another name, or move it away"
            )
        return False

    def update_config(self, model: str, update: Callable[[ModelConfig], None]) -> ConfigChange:
        """Read a model's configuration, change it and write it back, while no other process changes the repository.

        Args:
            model: name of the model.
            update: changes the configuration in place. If it raises or changes nothing, nothing is written.

        Raises:
            RepositoryError: there is no such model, or the repository cannot be changed.
        """
        check_function("update", update, "a function that changes a configuration")
        with self._locked():
            before = self.config(model)
            after = ModelConfig()
            after.CopyFrom(before)
            update(after)
            if after != before:
                self._write_config(self._folder(model), before, after)
            return ConfigChange(before, after)

    def _write_config(self, folder: Path, before: ModelConfig, after: ModelConfig) -> None:
        """Write a configuration over the one from before, and keep its comments and layout; the caller has the lock."""
        path, staged = folder / CONFIG_FILE, folder / _STAGED_CONFIG
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        staged.write_text(edit_text(text, before, after), encoding="utf-8")
        written = parse_config(staged.read_text(encoding="utf-8"), str(path))
        if written != after:
            staged.unlink()
            raise RepositoryError(
                f"{path} cannot be changed in place: rewrite it without unusual syntax, then try again"
            )
        staged.replace(path)

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
                self._remove_staged()
                yield
            finally:
                self._remove_staged()
                os.close(descriptor)
        except OSError as exc:
            path = exc.filename or self.path
            raise RepositoryError(f"model repository {self.path} cannot be changed: {path}: {os_reason(exc)}") from exc

    def _folder(self, model: str) -> Path:
        check_text("model", model, "the name of a model")
        if len(os.fsencode(model)) > _MAX_NAME:
            raise wrong("model", model, f"a name of at most {_MAX_NAME} bytes")
        return self.path / model

    def _require_folder(self) -> None:
        if not self.path.is_dir():
            raise RepositoryError(f"no model repository {self.path}: `tamiz publish` creates it")

    def _remove_staged(self) -> None:
        """Remove what a failed change, or a killed process, left behind; the caller has the lock."""
        for name in (_STAGED_FOLDER, _STAGED_GRAPH, _STAGED_CONFIG):
            for path in (self.path / name, *self.path.glob(f"*/{name}")):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
