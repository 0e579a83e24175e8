"""Image folders, one per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tamiz.errors import RecipeError
from tamiz.image_header import IMAGE_SUFFIXES

from ..recipe.data import FolderData
from .split import SPLITS, Source, Split, in_label_order


def read_folders(settings: FolderData) -> Source:
    """Find the images in ``<root>/<split>/<label>/…``.

    Raises:
        RecipeError: there are no images, or the class folders are inconsistent; the message lists all problems.
    """
    root = settings.root
    if not root.is_dir():
        raise RecipeError(f"data.root: there is no folder {root}; set data.root to the folder of the images")
    folders = {name: root / name for name in SPLITS if (root / name).is_dir()}
    if "train" not in folders:
        folders = {"train": root}
    labels = class_folders(folders["train"])
    if len(labels) < 2:
        raise RecipeError(f"data.root: {folders['train']} has {len(labels)} class folders; two or more are needed")
    problems: list[str] = []
    splits = {name: _read(folder, name, labels, problems) for name, folder in folders.items()}
    if problems:
        raise RecipeError(f"data.root: {'; '.join(problems)}")
    return Source(labels, "multiclass", splits)


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the class folders in a folder, in the order of labels."""
    return in_label_order(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _read(folder: Path, name: str, labels: tuple[str, ...], problems: list[str]) -> Split:
    if unknown := sorted(set(class_folders(folder)) - set(labels)):
        problems.append(f"{folder} has class folders that train does not have: {', '.join(unknown)}")
    images: list[Path] = []
    targets: list[int] = []
    for target, label in enumerate(labels):
        paths = sorted(path for path in (folder / label).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not paths and name == "train":
            problems.append(f"class folder {folder / label} contains no images")
        images += paths
        targets += [target] * len(paths)
    if not images and name != "train":
        problems.append(f"{folder} contains no images in class folders")
    return Split(name, images, np.array(targets, np.int64))
