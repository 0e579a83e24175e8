"""Image folders, one per class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tamiz.errors import RecipeError, os_reason
from tamiz.image_files import summarise, walk, why_folder_left_out

from ..recipe.data import FolderData
from .labels import in_label_order, list_some, to_label
from .location import located
from .split import SPLIT_NAMES, SPLITS, Data, Source, Split, split_name

OUTSIDE = "images outside the class folders"
"""Why an image is left out that is in no class folder."""

LIKE_SPLITS = frozenset(SPLIT_NAMES) | {"training", "testing", "dev", "eval", "evaluation", "holdout"}
"""Names, in lower case, of folders that hold a part of the images rather than those of a label."""

USE_A_MANIFEST = "if these are labels, list the images in a manifest instead (kind: csv)"


def read_folders(settings: FolderData) -> Source:
    """Find the images in ``<root>/<split>/<label>/…`` or ``<root>/<label>/…``.

    Raises:
        RecipeError: there are no images, or the folders are inconsistent; the message lists all problems.
    """
    root = settings.root
    if not root.is_dir():
        hint = f"; to write the digits there: python -m tamiz_train.digits {root}" if root.name == "digits" else ""
        raise RecipeError(
            f"data.root: there is no folder {located(root)}; set data.root to the folder of the images{hint}"
        )
    problems: list[str] = []
    splits = _split_folders(root, problems)
    classes = {split: _class_folders(folder, problems) for split, folder in splits.items()}
    labels = in_label_order(classes["train"].values())
    if not problems and len(labels) < 2:
        raise RecipeError(f"data.root: {_too_few(splits['train'], len(labels))}")
    for split, folder in splits.items():
        if unknown := [label for label in in_label_order(classes[split].values()) if label not in labels]:
            problems.append(f"{folder} has class folders that train does not have: {list_some(unknown)}")
    if problems:
        raise RecipeError(f"data.root: {'; '.join(problems)}")
    images, left_out = _find_images(root, splits, classes, problems)
    for split, folder in splits.items():
        empty = [label for label in labels if not images[split, label]]
        if split == "train" and empty:
            problems.append(f"class folders of {folder} without images: {list_some(empty)}; remove them, or add images")
        elif len(empty) == len(labels):
            problems.append(f"{folder} contains no images in class folders")
    if problems:
        note = summarise(left_out)
        raise RecipeError(f"data.root: {'; '.join([*problems, *filter(None, [note])])}")
    return Source(
        labels,
        "multiclass",
        {split: _to_split(split, [images[split, label] for label in labels]) for split in splits},
        left_out,
    )


def nested_labels(root: Path, data: Data) -> tuple[str, ...]:
    """The labels whose images are all in folders below the label's own folder, which may be no folder of a label.

    Args:
        root: the folder that the images were found in.
        data: what was found, by `read_folders`, with its splits.
    """
    depth = 2 if any(split_name(name) == "train" for name in _folders(root)) else 1
    direct = {
        data.labels[target]
        for split in data.splits
        for image, target in zip(split.images, split.targets.tolist(), strict=True)
        if len(Path(image).relative_to(root).parts) == depth + 1
    }
    return tuple(label for label in data.labels if label not in direct)


def _split_folders(root: Path, problems: list[str]) -> Mapping[str, Path]:
    """The folder of each split; the whole root is that of the training images if there is no folder ``train``."""
    names = _folders(root)
    folders = {split: [name for name in names if split_name(name) == split] for split in SPLITS}
    if not folders["train"]:
        problems += _like_splits(root, names, "name the folder of the training images train")
        return {"train": root}
    for split, same in folders.items():
        if len(same) > 1:
            problems.append(f"{root} has several folders for {split}: {', '.join(same)}; keep one of them")
    if others := [name for name in names if split_name(name) is None]:
        problems.append(
            f"{root} has folders beside {folders['train'][0]} that are no split: {list_some(others)}; the splits are "
            f"train, validation (or valid, val) and test: rename the folders, or move them away; {USE_A_MANIFEST}"
        )
    return {split: root / same[0] for split, same in folders.items() if same}


def _too_few(folder: Path, labels: int) -> str:
    if labels or not any(not found.left_out and not found.error for found in walk(folder)):
        return f"{folder} has {labels} class {'folder' if labels == 1 else 'folders'}; two or more are needed"
    problem = f"{folder} has images, but no class folders: put the images of each label into a folder of its own"
    above = folder.parent if folder.name else folder.absolute().parent
    return f"{problem}; or did you mean {above}?" if len(_folders(above)) > 1 else problem


def _class_folders(folder: Path, problems: list[str]) -> Mapping[str, str]:
    """The label of each class folder by its name."""
    names = _folders(folder)
    if split_name(folder.name) is not None:
        problems += _like_splits(folder, names, "splits are folders beside each other")
    labels = {}
    for name in names:
        try:
            labels[name] = to_label(name)
        except ValueError as exc:
            problems.append(f"class folder in {folder}: {exc}; rename it")
    return labels


def _folders(folder: Path) -> Sequence[str]:
    try:
        folders = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except OSError as exc:
        raise RecipeError(f"data.root: {folder}: {os_reason(exc)}") from exc
    return sorted(name for name in folders if not why_folder_left_out(name))


def _like_splits(folder: Path, names: Iterable[str], remedy: str) -> list[str]:
    found = [name for name in names if name.lower() in LIKE_SPLITS]
    if not found:
        return []
    return [f"{folder} has class folders that are named like splits: {list_some(found)}; {remedy}; {USE_A_MANIFEST}"]


def _find_images(
    root: Path, splits: Mapping[str, Path], classes: Mapping[str, Mapping[str, str]], problems: list[str]
) -> tuple[Mapping[tuple[str, str], list[Path]], Counter[str]]:
    """The images by split and label, and the number of files that are left out, by reason."""
    images: dict[tuple[str, str], list[Path]] = defaultdict(list)
    left_out = Counter[str]()
    depth = 0 if splits["train"] == root else 1
    for found in walk(root):
        parts = found.path.removeprefix(str(root)).lstrip("/").split("/")
        if found.error:
            problems.append(f"{found.path}: {found.error}")
        elif found.left_out:
            left_out[found.left_out] += 1
        elif len(parts) < depth + 2:
            left_out[OUTSIDE] += 1
        else:
            split = split_name(parts[0]) if depth else "train"
            assert split is not None
            images[split, classes[split][parts[depth]]].append(Path(found.path))
    return images, left_out


def _to_split(name: str, images: Sequence[Sequence[Path]]) -> Split:
    targets = np.repeat(np.arange(len(images)), [len(paths) for paths in images])
    return Split(name, [path for paths in images for path in paths], targets.astype(np.int64))
