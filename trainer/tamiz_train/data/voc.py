"""Data sets in the layout of PASCAL VOC; the labels of an image are the names of the objects in its annotation."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from tamiz.errors import RecipeError

from ..recipe.data import VocData
from .labels import in_label_order, list_some, to_label
from .location import located
from .split import Source, Split

SET_FILES = {"train": ("train.txt", "trainval.txt"), "validation": ("val.txt",), "test": ("test.txt",)}
"""The files of ``ImageSets/Main`` that list the images of each split; the first one that exists is read."""


def read_voc(settings: VocData) -> Source:
    """Read the lists in ``ImageSets/Main``, and the annotations of the listed images.

    Raises:
        RecipeError: a part of the layout is missing or cannot be read.
    """
    if not settings.root.is_dir():
        raise RecipeError(
            f"data.root: there is no folder {located(settings.root)}; set data.root to the folder that contains "
            "JPEGImages, Annotations and ImageSets"
        )
    sets = settings.root / "ImageSets" / "Main"
    names = {split: _read_set(sets, files) for split, files in SET_FILES.items()}
    if not names["train"]:
        raise RecipeError(
            f"data.root: {sets} has no train.txt or trainval.txt that lists images; set data.root to the folder that "
            "contains JPEGImages, Annotations and ImageSets"
        )
    if not (sets / "train.txt").is_file() and names["validation"]:
        # trainval.txt lists the images of val.txt too.
        validation = set(names["validation"])
        names["train"] = [name for name in names["train"] if name not in validation]
    problems: list[str] = []
    objects = {
        name: _read_objects(settings.root, name, settings.difficult, problems)
        for split in names.values()
        for name in split
    }
    if problems:
        raise RecipeError(f"data.root: {list_some(problems, '; ')}")
    labels = in_label_order(label for found in objects.values() for label in found)
    if not labels:
        raise RecipeError(f"data.root: no object is annotated in {settings.root / 'Annotations'}")
    splits = {}
    for split, chosen in names.items():
        if not chosen:
            continue
        targets = np.zeros((len(chosen), len(labels)), np.float32)
        for row, name in enumerate(chosen):
            targets[row, [labels.index(label) for label in objects[name]]] = 1
        splits[split] = Split(split, [settings.root / "JPEGImages" / f"{name}.jpg" for name in chosen], targets)
    return Source(labels, "multilabel", splits)


def _read_set(folder: Path, files: tuple[str, ...]) -> list[str]:
    for file in files:
        path = folder / file
        if path.is_file():
            try:
                # The lists of a single class have a second column. Not splitlines, which splits a name at U+2028.
                lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
                return [re.split("[ \t]", line)[0] for line in lines if line]
            except (OSError, UnicodeDecodeError) as exc:
                raise RecipeError(f"data.root: {path}: {getattr(exc, 'strerror', None) or 'not UTF-8'}") from exc
    return []


def _read_objects(root: Path, name: str, difficult: bool, problems: list[str]) -> set[str]:
    if Path(name).name != name:
        problems.append(f"{name} in ImageSets/Main is not the name of an image")
        return set()
    path = root / "Annotations" / f"{name}.xml"
    try:
        # Safe: Expat limits the expansion of entities and does not read other files.
        annotation = ElementTree.parse(path)  # noqa: S314
    except OSError as exc:
        problems.append(f"{path}: {exc.strerror}")
        return set()
    except (ElementTree.ParseError, ValueError) as exc:
        problems.append(f"{path}: not XML: {exc}")
        return set()
    found = set()
    for item in annotation.iter("object"):
        label = to_label((item.findtext("name") or "").strip())
        if not label:
            problems.append(f"{path}: an object has no name")
        elif difficult or (item.findtext("difficult") or "0").strip() != "1":
            found.add(label)
    return found
