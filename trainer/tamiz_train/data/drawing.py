"""Drawing splits: an image's content and the seed decide its split, so that it stays there when other images come.

Each image has a position from 0 to 1: a hash of the seed, the name of the new split and the content of the image. The
images whose position is below the fraction of the split are drawn. The position depends on no other image, so images
and classes can be added, removed, renamed and moved without a change to the others; copies of an image are in one
split. For the same reason the size of the split is the fraction only on average.

In a class of a few images, none or all may be below the fraction. The images with the lowest positions are then drawn,
or those with the highest ones left, so that each split has an image of each class. Such an image can change its split
when images of its class are added, at most one per class and split. Of a class of 20 images, a fraction of 0.2 needs
this with a probability of 1 % (0.8 to the power of 20).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tamiz.errors import RecipeError

from .labels import list_some
from .split import Split


def draw_split(
    split: Split, labels: Sequence[str], fraction: float, name: str, seed: int, *, least: int = 1, keep: int = 1
) -> tuple[Split, Split]:
    """Draw a new split from a split.

    Args:
        split: the split to draw from.
        labels: the labels in the order of the targets.
        fraction: the fraction of its images to draw.
        name: the name of the new split.
        seed: the seed; another one gives an independent choice.
        least: the smallest number of images of each class to draw (multilabel: of all images). Copies of an image count
            as one.
        keep: the smallest number of images of each class to leave.

    Returns:
        the remaining images, and the new split, both in the order of the split.

    Raises:
        RecipeError: a class has too few images.
    """
    contents = _contents(split)
    positions = {content: _position(content, name, seed) for content in contents}
    drawn = {content for content, position in positions.items() if position < fraction}
    short = []
    for class_name, members in _classes(split, labels, contents):
        if len(members) < least + keep:
            short.append(f"{class_name} has {len(members)}")
        ordered = sorted(members, key=lambda content: positions[content])
        drawn.update(ordered[:least])
        drawn.difference_update(ordered[-keep:])
    if short:
        raise RecipeError(
            f"data: too few images to draw {name} images from: {list_some(short)}; {least + keep} or more different "
            "images of a label are needed: add images, or remove the label"
        )
    chosen = np.array([content in drawn for content in contents])
    return split.take(np.flatnonzero(~chosen)), split.take(np.flatnonzero(chosen), name)


def _contents(split: Split) -> list[bytes]:
    """What identifies each image: a hash of its content; the name of a file that cannot be read."""
    if isinstance(split.images, np.ndarray):
        return split.hashes
    return [found or os.fsencode(Path(path).name) for found, path in zip(split.hashes, split.images, strict=True)]


def _position(content: bytes, name: str, seed: int) -> float:
    digest = hashlib.blake2b(content, digest_size=8, key=f"{name} {seed}".encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


def _classes(split: Split, labels: Sequence[str], contents: Sequence[bytes]) -> list[tuple[str, set[bytes]]]:
    """The different images of each class; multilabel images are all in one class."""
    if split.targets.ndim == 2:
        return [("the data", set(contents))]
    members: dict[int, set[bytes]] = {}
    for target, content in zip(split.targets.tolist(), contents, strict=True):
        members.setdefault(int(target), set()).add(content)
    return [(f"label {labels[target]}", members[target]) for target in sorted(members)]
