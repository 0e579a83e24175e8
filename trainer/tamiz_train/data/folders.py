"""Image folders, one a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tamiz.errors import RecipeError
from tamiz.preprocessing import SUFFIXES

from ..settings import FolderData
from .split import Source, Split, in_order


def read_folders(settings: FolderData) -> Source:
    """Find the images of ``root/<split>/<label>/…``.

    Raises:
        RecipeError: there are none, or the class folders do not fit each other; all problems in one message.
    """
    root = settings.root
    if not root.is_dir():
        raise RecipeError(f"data.root: there is no folder {root}; make it, or set data.root to where the images are")
    whole = not (root / "train").is_dir()
    folders = {name: root / name for name in ("train", "validation", "test") if (root / name).is_dir()}
    if whole:
        folders = {"train": root}
    labels = class_folders(folders["train"])
    if len(labels) < 2:
        raise RecipeError(f"data.root: {folders['train']} holds {len(labels)} class folders; two or more are needed")
    problems: list[str] = []
    splits = {name: _read(folder, name, labels, problems) for name, folder in folders.items()}
    if problems:
        raise RecipeError(f"data.root: {'; '.join(problems)}")
    return Source(labels, "multiclass", splits)


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the class folders in a folder, in the order of labels."""
    return in_order(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _read(folder: Path, name: str, labels: tuple[str, ...], problems: list[str]) -> Split:
    if extra := sorted(set(class_folders(folder)) - set(labels)):
        problems.append(f"{folder} has class folders that train has not: {', '.join(extra)}")
    images: list[Path] = []
    targets: list[int] = []
    for target, label in enumerate(labels):
        paths = sorted(path for path in (folder / label).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not paths and name == "train":
            problems.append(f"class folder {folder / label} holds no images")
        images += paths
        targets += [target] * len(paths)
    if not images and name != "train":
        problems.append(f"{folder} holds no images in class folders")
    return Split(name, images, np.array(targets, np.int64))
