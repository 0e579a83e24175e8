"""The model repository on disk: its models, their versions and their configurations.

::

    model_repository/<model>/config.pbtxt    Triton's configuration of the model; names the live version
    model_repository/<model>/<version>/      one published version; see `tamiz_server.version`

What changes a repository is put together inside it and renamed into place; see `tamiz_server.staging`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tamiz.arguments import check_function, check_instance, check_path, check_text, check_type, check_whole, wrong
from tamiz.errors import RepositoryError, os_reason, shorten, suggest
from tamiz.routing import Rollout
from tamiz.spec import ModelSpec

from .accelerators import change_accelerators
from .config import (
    PROMOTIONS,
    ModelConfig,
    ServingSettings,
    add_version,
    describe_version_policy,
    drop_versions,
    last_version,
    live_on_disk,
    new_config,
    parse_config,
    read_promotions,
    set_live,
    was_published,
)
from .history import HistoryEntry, append_entries, check_reason, make_entry, read_history
from .plan import PLAN_FILE, require_same_kind, serve_plans
from .staging import STAGED, changes, put_in_place, remove_folder, stage_graph, staging_parent, write_config
from .states import State, live_without_candidate, rollout_on_disk, version_states
from .version import Version, read_version, version_numbers, write_version

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
CONFIG_FILE = "config.pbtxt"

_MAX_NAME = 255
"""The longest name of a folder, in bytes (``NAME_MAX`` of Linux)."""

_MAX_SHOWN = 300
"""The number of characters of a path in messages."""


class ConfigChange(NamedTuple):
    """A model's configuration before and after a change.

    Attributes:
        before: the configuration that was replaced.
        after: the configuration that replaced it; equal to ``before`` if nothing had to change.
        entry: what the history has of the change; None if nothing.
    """

    before: ModelConfig
    after: ModelConfig
    entry: HistoryEntry | None


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
        states = version_states(self.config(model), self.version_numbers(model))
        return [read_version(self._folder(model), number, state) for number, state in sorted(states.items())]

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
        return read_version(self._folder(model), numbers[-1], State.LIVE)

    def live_numbers(self, model: str) -> list[int]:
        """Numbers of the live versions, lowest first: those that servers load, without the candidate of a rollout.

        Raises:
            RepositoryError: there is no such model, or its configuration cannot be read.
        """
        return live_without_candidate(self.config(model), self.version_numbers(model))

    def loaded_numbers(self, model: str) -> list[int]:
        """Numbers of the versions that servers load by the model's version policy, lowest first.

        Raises:
            RepositoryError: there is no such model, or its configuration cannot be read.
        """
        return live_on_disk(self.config(model), self.version_numbers(model))

    def rollout(self, model: str) -> Rollout | None:
        """The canary or shadow of a model; None if it has none.

        Raises:
            RepositoryError: there is no such model, or its configuration cannot be read.
        """
        return rollout_on_disk(self.config(model), self.version_numbers(model))

    def history(self, model: str) -> list[HistoryEntry]:
        """Who published, promoted, rolled out and rolled back which version, oldest change first.

        Raises:
            RepositoryError: there is no such model, or its history cannot be read.
        """
        self._config_text(model)
        return read_history(self._folder(model))

    def config(self, model: str) -> ModelConfig:
        """A copy of Triton's configuration of a model (``inference.ModelConfig``).

        To change the model, use `update_config`.

        Raises:
            RepositoryError: there is no such model, or its configuration cannot be read.
        """
        return parse_config(self._config_text(model), str(self._folder(model) / CONFIG_FILE))

    def _config_text(self, model: str) -> str:
        path = self._folder(model) / CONFIG_FILE
        try:
            if path.is_file():
                return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RepositoryError(f"{path} cannot be read: {os_reason(exc)}") from exc
        raise RepositoryError(f"no model {model!r} in {self.path}{suggest(model, self.models())}")

    def publish(
        self,
        model: str,
        onnx: str | os.PathLike[str],
        spec: ModelSpec,
        *,
        manifest: Mapping[str, Any] | None = None,
        settings: ServingSettings = ServingSettings(),
        files: Mapping[str, bytes] | None = None,
        reason: str = "",
    ) -> int:
        """Add a version to a model.

        The first version goes live at once; a later one goes live when it is promoted.

        Args:
            model: name of the model: letters, digits, ".", "_" and "-"; the first character is a letter or a digit.
            onnx: an ONNX file, which is copied. Its graph has the input ``image``, uint8
                ``[batch, height, width, channels]``, and the output ``probabilities``, float32 ``[batch, classes]``.
            spec: labels, preprocessing and thresholds of the version.
            manifest: how the version was created; the hashes of the graph and the spec, and the time, are added. If
                it has the hash of the graph, ``onnx_sha256``, what is published must have that hash.
            settings: how Triton serves the model; used for the first version only.
            files: content of other files that are stored with the version, by name. With ``model.plan``, it is what
                Triton serves, through its backend ``tensorrt``, in place of the graph.
            reason: why, for the history.

        Returns:
            the number of the new version. A number is never reused, even after its version is deleted.

        Raises:
            RepositoryError: the name is not valid, there is no ONNX file or it has another hash than the manifest, the
                model was not published by Tamiz, it serves plans and this is none or the other way round, or the
                repository cannot be changed.
        """
        check_type("model", model, str, "the name of a model")
        check_path("onnx", onnx, "the path of an ONNX file")
        check_instance("spec", spec, ModelSpec)
        check_type("manifest", manifest, (Mapping, type(None)), "a dict, or None")
        check_instance("settings", settings, ServingSettings)
        check_type("files", files, (Mapping, type(None)), "a dict, or None")
        check_reason(reason)
        _check_name(model)
        graph = Path(onnx)
        try:
            found = graph.is_file()
        except OSError:
            # The name is too long.
            found = False
        if not found:
            shown = shorten(str(graph), _MAX_SHOWN).replace("\n", "\\n")
            raise RepositoryError(f"cannot publish {shown}: no such file")
        with changes(self.path):
            is_new = self._is_new(model)
            before = ModelConfig() if is_new else self.config(model)
            config = new_config(model, settings)
            is_plan = PLAN_FILE in (files or {})
            if is_plan:
                serve_plans(config)
            if not is_new:
                require_same_kind(before, is_plan=is_plan)
                config.CopyFrom(before)
            version = self.next_version(model)
            staged_graph = stage_graph(self.path, graph)
            folder = self._folder(model)
            staged = (staging_parent(self.path, map(self._folder, self.models())) if is_new else folder) / STAGED
            # The first version and its configuration appear together.
            summary = write_version(
                staged / str(version) if is_new else staged,
                model=model,
                version=version,
                graph=staged_graph,
                spec=spec,
                manifest=manifest or {},
                files=files,
            )
            add_version(config, version, spec, summary)
            if is_new:
                set_live(config, [version], spec)
                change_accelerators(config, {}, (manifest or {}).get("accelerators") or {})
                write_config(staged / CONFIG_FILE, before, config)
                append_entries(staged, [make_entry("publish", None, version, reason)])
                put_in_place(staged, folder)
            else:
                numbers = self.version_numbers(model)
                live = live_without_candidate(before, numbers)
                # The configuration is written first: a version without a spec in it could go live, but no client
                # could use it. A spec without a version is dropped by the next change.
                drop_versions(config, keep=[*numbers, version])
                write_config(folder / CONFIG_FILE, before, config)
                entry = make_entry("publish", live[-1] if live else None, version, reason)
                append_entries(folder, [entry], read_promotions(before))
                put_in_place(staged, folder / str(version))
        return version

    def next_version(self, model: str) -> int:
        """The number that the next published version of a model gets; the repository need not exist yet.

        Raises:
            RepositoryError: the name is not valid, the model was not published by Tamiz, or its configuration cannot be
                read.
        """
        check_type("model", model, str, "the name of a model")
        _check_name(model)
        last = 0 if self._is_new(model) else last_version(self.config(model))
        return max([last, *self.version_numbers(model)]) + 1

    def _is_new(self, model: str) -> bool:
        folder = self._folder(model)
        if not folder.exists():
            return True
        if not (folder / CONFIG_FILE).is_file() or not was_published(self.config(model)):
            raise RepositoryError(
                f"model {model}: {folder} was not published by Tamiz; publish under another name, or move it away"
            )
        return False

    def update_config(self, model: str, update: Callable[[ModelConfig], HistoryEntry | None]) -> ConfigChange:
        """Read a model's configuration, change it and write it back, while no other process changes the repository.

        Args:
            model: name of the model.
            update: changes the configuration in place, and may return what the history shall have of the change. If it
                raises or changes nothing, nothing is written.

        Raises:
            RepositoryError: there is no such model, or the repository cannot be changed.
        """
        check_function("update", update, "a function that changes a configuration")
        self._require_folder()
        with changes(self.path):
            before = self.config(model)
            after = ModelConfig()
            after.CopyFrom(before)
            entry = update(after)
            if after == before:
                return ConfigChange(before, after, None)
            path = self._folder(model) / CONFIG_FILE
            write_config(path, before, after)
            if entry is not None:
                try:
                    append_entries(path.parent, [entry], read_promotions(before))
                except BaseException:
                    write_config(path, after, before)
                    raise
            return ConfigChange(before, after, entry)

    def remove_versions(self, model: str, *, keep: int, also_keep: Collection[int] = (), reason: str = "") -> list[int]:
        """Remove versions; see `tamiz_server.pruning.prune`.

        Args:
            model: name of the model.
            keep: number of the newest versions to keep.
            also_keep: further versions to keep, beside those that are not archived.
            reason: why, for the history.

        Returns:
            the numbers of the removed versions, lowest first.

        Raises:
            RepositoryError: there is no such model, or the repository cannot be changed.
        """
        check_whole("keep", keep, least=0)
        check_type("also_keep", also_keep, (list, tuple, set, frozenset), "the numbers of versions")
        check_reason(reason)
        self._require_folder()
        with changes(self.path):
            before, numbers = self.config(model), self.version_numbers(model)
            states = version_states(before, numbers)
            kept = {*numbers[len(numbers) - keep :], *also_keep} if keep else set(also_keep)
            removed = [number for number in numbers if states[number] is State.ARCHIVED and number not in kept]
            # Recorded first, so that no version disappears without a word if the process is killed.
            entries = [make_entry("prune", None, number, reason) for number in removed]
            if entries:
                append_entries(self._folder(model), entries, read_promotions(before))
            for number in removed:
                remove_folder(self._folder(model) / str(number))
            after = ModelConfig()
            after.CopyFrom(before)
            drop_versions(after, keep=[number for number in numbers if number not in removed])
            if after != before:
                write_config(self._folder(model) / CONFIG_FILE, before, after)
            return removed

    def _folder(self, model: str) -> Path:
        check_text("model", model, "the name of a model")
        if len(os.fsencode(model)) > _MAX_NAME:
            raise wrong("model", model, f"a name of at most {_MAX_NAME} bytes")
        return self.path / model

    def _require_folder(self) -> None:
        # Not Path.is_dir(), for which a link to itself is no folder, and no error.
        try:
            if stat.S_ISDIR(self.path.stat().st_mode):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as exc:
            raise RepositoryError(f"model repository {self.path} cannot be read: {os_reason(exc)}") from exc
        raise RepositoryError(f"no model repository {self.path}: `tamiz publish` creates it")


def _check_name(model: str) -> None:
    if not MODEL_NAME.fullmatch(model):
        raise RepositoryError(
            f'model name {model!r} is not valid: use letters, digits, ".", "_" and "-"; the first character is a '
            "letter or a digit"
        )
