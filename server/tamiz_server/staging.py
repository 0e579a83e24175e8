"""Staging: changes of a model repository are put together inside it, and renamed into place.

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
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tamiz.errors import RepositoryError, os_reason
from tamiz.files import sync
from tamiz.locks import open_locked

from .config import ModelConfig, parse_config
from .config_text import edit_text

STAGED = ".tamiz-staging"
"""Name of the folder in which a version is put together; see `staging_parent`. The other staged files begin with it."""

_GRAPH = ".tamiz-staging.onnx"


@contextmanager
def changes(repository: Path) -> Iterator[None]:
    """Hold a repository's lock during the block; an OSError in the block becomes a RepositoryError.

    Args:
        repository: the folder of the repository, which is created if it does not exist.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        descriptor = open_locked(repository, wait=True)
        assert descriptor is not None, "open_locked returns None only with wait=False"
        try:
            _remove_staged(repository)
            try:
                yield
            finally:
                _remove_staged(repository)
        finally:
            os.close(descriptor)
    except OSError as exc:
        path = exc.filename or repository
        raise RepositoryError(f"model repository {repository} cannot be changed: {path}: {os_reason(exc)}") from exc


def _remove_staged(repository: Path) -> None:
    """Remove what a failed change, or a killed process, left behind; what cannot be removed harms nothing."""
    for path in (*repository.glob(f"{STAGED}*"), *repository.glob(f"*/{STAGED}*")):
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def stage_graph(repository: Path, graph: Path) -> Path:
    """Copy a graph to a file of the repository that Triton ignores."""
    return Path(shutil.copyfile(graph, repository / _GRAPH))


def staging_parent(repository: Path, models: Iterable[Path]) -> Path:
    """The folder in which a new model is put together: that of another model, or of the repository if there is none.

    Args:
        repository: the folder of the repository.
        models: the folders of its models; the first one that can be used is taken.
    """
    for model in models:
        # A link may lead to another file system, and a mount point does.
        is_plain = not model.is_symlink() and not model.is_mount()
        if is_plain and os.access(model, os.W_OK | os.X_OK):
            return model
    return repository


def remove_folder(folder: Path) -> None:
    """Remove the folder of a version: from its place at once, from the disk afterwards.

    If the process is killed, the next change of the repository removes the rest.
    """
    staged = folder.with_name(STAGED)
    folder.rename(staged)
    sync(folder.parent)
    shutil.rmtree(staged)


def put_in_place(staged: Path, path: Path) -> None:
    """Rename a staged file or folder; its content reaches the disk first, so that a power loss leaves no part of it."""
    for each in (*staged.rglob("*"), staged):
        sync(each)
    staged.replace(path)
    sync(path.parent)


def write_config(path: Path, before: ModelConfig, after: ModelConfig) -> None:
    """Write a configuration over the one from before, and keep its comments and layout.

    Raises:
        RepositoryError: the file's syntax cannot be edited.
    """
    text = edit_text(path.read_text(encoding="utf-8") if path.is_file() else "", before, after)
    if parse_config(text, str(path)) != after:
        raise RepositoryError(f"{path} cannot be changed in place: rewrite it without unusual syntax, then try again")
    replace_file(path, text.encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, and keep the mode and the owner of the one that it replaces."""
    staged = path.with_name(f"{STAGED}{path.suffix}")
    staged.write_bytes(content)
    if path.is_file():
        status = path.stat()
        # Only root may give a file away.
        with suppress(PermissionError):
            os.chown(staged, status.st_uid, status.st_gid)
        staged.chmod(stat.S_IMODE(status.st_mode))
    put_in_place(staged, path)
